"""No test sets a constant of ours to another value: what a test needs is passed in."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SABOTAGE = TESTS / "sabotage" / "sitecustomize.py"
"""Breaks the code of a process on purpose, to see that the other tests notice."""

OURS = ("api", "worker", "shared", "local", "bench", "deploy", "stillreel")
DOTTED = re.compile(rf"({'|'.join(OURS)})(\.[a-z_0-9]+)+\.[A-Z][A-Z_]+")


def names_of(tree: ast.Module) -> dict[str, str]:
    """Return the modules that a file imports by the names that it has for them."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def patched_constants(tree: ast.Module) -> Iterator[str]:
    """Yield each constant of ours that a file of tests sets, by `setattr` or as it stands."""
    names = names_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            texts = [ast.unparse(target).partition(".") for target in node.targets]
            yield from (
                f"{names[module]}.{name}"
                for module, _, name in texts
                if name.isupper() and names.get(module, "").partition(".")[0] in OURS
            )
        if not isinstance(node, ast.Call) or not node.args:
            continue
        if not isinstance(node.func, ast.Attribute) or node.func.attr != "setattr":
            continue
        parts = [ast.unparse(arg).strip("'\"") for arg in node.args[:2]]
        in_one = isinstance(node.args[0], ast.Constant)
        target = parts[0] if in_one else f"{names.get(parts[0], parts[0])}.{parts[1]}"
        name = target.rpartition(".")[2]
        if target.partition(".")[0] in OURS and name == name.upper():
            yield target
    # Those that a loop goes through.
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    yield from (text for text in texts if isinstance(text, str) and DOTTED.fullmatch(text))


def test_no_test_patches_a_constant_of_ours() -> None:
    files = set(TESTS.rglob("*.py")) - {Path(__file__), SABOTAGE}
    found = {name for path in files for name in patched_constants(ast.parse(path.read_text()))}
    assert found == set()


def test_a_patched_constant_would_be_seen() -> None:
    code = """
from shared import bell
import shared.db as database
monkeypatch.setattr(bell, "SOCKET_SECONDS", 1)
patched.setattr("api.ports.KEY_DEADLINE", 1)
patch.setattr(database, "CONNECT_SECONDS", 1)
monkeypatch.setattr(bell, "client", None)
monkeypatch.setattr("socket.AF_INET", 1)
bell.MUTE = None
bell.client = None
PATIENCE = 1
"""
    assert set(patched_constants(ast.parse(code))) == {
        *("shared.bell.SOCKET_SECONDS", "api.ports.KEY_DEADLINE", "shared.db.CONNECT_SECONDS"),
        "shared.bell.MUTE",
    }
