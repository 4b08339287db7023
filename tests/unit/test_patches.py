"""No test sets one of our constants to another value: a test passes in what it needs."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parents[1]
AT_START = {
    TESTS / "sabotage" / "sitecustomize.py",
    TESTS / "support" / "providers" / "small_models.py",
}
"""Files that change their own process before it begins, by its `sitecustomize`.

One breaks a safeguard on purpose, to see that other tests notice. The other adds small models to
what providers offer.
"""

OURS = ("api", "worker", "shared", "local", "bench", "deploy", "stillreel")
DOTTED = re.compile(rf"({'|'.join(OURS)})(\.[a-z_0-9]+)+\.[A-Z][A-Z_]+")


def names_of(tree: ast.Module) -> dict[str, str]:
    """Return the modules that a file imports, by the names that the file gives them."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def patched_constants(tree: ast.Module) -> Iterator[str]:
    """Yield each of our constants that a test file sets, by `setattr` or by an assignment."""
    names = names_of(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets):
                yield from filter(None, (assigned(target, names) for target in targets))
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[first, second, *_]):
                yield from filter(None, [set_by_name(first, second, names)])
            case ast.Constant(value=str(text)) if DOTTED.fullmatch(text):
                yield text  # A loop may set this one.


def assigned(target: ast.expr, names: Mapping[str, str]) -> str | None:
    """Return the constant in `module.NAME = ...`."""
    module, _, name = ast.unparse(target).partition(".")
    is_ours = names.get(module, "").partition(".")[0] in OURS
    return f"{names[module]}.{name}" if is_ours and name.isupper() else None


def set_by_name(first: ast.expr, second: ast.expr, names: Mapping[str, str]) -> str | None:
    """Return the constant in `setattr(module, "NAME", ...)` or `setattr("module.NAME", ...)`."""
    parts = [ast.unparse(part).strip("'\"") for part in (first, second)]
    in_one = isinstance(first, ast.Constant)
    target = parts[0] if in_one else f"{names.get(parts[0], parts[0])}.{parts[1]}"
    is_ours = target.partition(".")[0] in OURS
    return target if is_ours and target.rpartition(".")[2].isupper() else None


def test_no_test_patches_a_constant_of_ours() -> None:
    files = set(TESTS.rglob("*.py")) - {Path(__file__), *AT_START}
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
