"""Rules that people would forget; the tests read the code itself."""

import ast
import functools
import gc
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "worker", "shared", "local", "bench", "deploy")
MODEL_LIBRARIES = {"torch", "diffusers", "transformers", "accelerate", "safetensors"}
ONLY_IN = {
    "boto3": {"shared/storage.py"},
    "botocore": {"shared/storage.py"},
    "celery": {"worker/celery_app.py", "worker/tasks.py", "bench/plain_celery.py"},
    "kombu": {"worker/bells.py"},
    "redis": {
        "shared/bell.py",
        "shared/jobs/preview_store.py",
        "worker/bells.py",
        "api/monitoring/readiness.py",
        "bench/bare_gateway.py",  # This gateway, for comparison, does it all itself.
    },
}
WRITES_A_STATUS = {"shared/jobs/sql.py", "bench/bare_gateway.py"}
WEB_CLIENTS = {
    *("requests", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "aiohttp", "pycurl"),
    *("http.client", "urllib.request", "xmlrpc", "websockets", "ftplib", "smtplib", "imaplib"),
}
DIALS = {"connect_ex", "create_connection", "open_connection", "sock_connect"}
LATE_IMPORTS = ("import_module", "__import__")
OUTGOING = {
    "shared/outbound/client.py": {"httpcore2", "httpx2"},
    "shared/outbound/pinned_connection.py": {"httpcore2", "create_connection"},
    "shared/outbound/url.py": {"httpx2"},
    "worker/download/web.py": {"httpx2"},  # It downloads weights from addresses of the operator.
}

BY_PROXY = {"worker/download/web.py"}
"""Only downloads of weights use the operator's proxy, as pip does."""


parsed = functools.cache(ast.parse)


@functools.cache
def nodes(tree: ast.Module) -> Sequence[ast.AST]:
    """Return all nodes of a module; one walk serves all tests."""
    return tuple(ast.walk(tree))


@functools.cache
def sources() -> Sequence[tuple[str, ast.Module]]:
    """Return each of our modules with its tree; one read serves all tests."""
    return [
        (path.relative_to(ROOT).as_posix(), parsed(path.read_text()))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


@pytest.fixture(scope="module", autouse=True)
def _trees_are_no_garbage() -> Iterator[None]:
    """Do not look for garbage among a million nodes, here or at pytest's end: that took 4 s."""
    gc.disable()
    yield
    for kept in (parsed, nodes, sources, imported):
        kept.cache_clear()
    gc.enable()


@functools.cache
def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def test_the_folder_named_alembic_does_not_hide_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_foreign_library_is_met_at_its_port_only(library: str) -> None:
    users = {path for path, tree in sources() if library in imported(tree)}
    assert users <= ONLY_IN[library]


def test_only_engines_and_benches_import_model_libraries() -> None:
    users = {path for path, tree in sources() if imported(tree) & MODEL_LIBRARIES}
    assert {u for u in users if not u.startswith(("worker/engines/", "bench/"))} == set()


def test_a_status_is_written_in_one_place_only() -> None:
    """Find any SQL that sets jobs.status, and any assignment to `.status`, in other places."""
    guilty = set()
    for path, tree in sources():
        for node in nodes(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = " ".join(node.value.split()).lower()
                if "update jobs set status" in text or "insert into jobs" in text:
                    guilty.add(path)
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                owners = (t for t in targets if isinstance(t, ast.Attribute))
                guilty |= {path for t in owners if t.attr == "status"}
    assert guilty == WRITES_A_STATUS


def rooms() -> list[str]:
    """Return the rooms in docs/architecture.md in order, such as `api/submit` or `api/ports`."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.partition("## The tree")[2].split("```")[1]
    found, top = [], ""
    for line in drawn.strip().splitlines():
        name = line.split()[0].removesuffix(".py").rstrip("/")
        if line.startswith(" "):
            found.append(f"{top}/{name}")
        else:
            top = name
    return found


def room_of(parts: Sequence[str]) -> str:
    return "/".join(parts[:2]).removesuffix(".py")


def test_every_room_is_drawn() -> None:
    houses = {room.partition("/")[0] for room in rooms()}
    there = {
        room_of(path.split("/"))
        for path, _ in sources()
        if path.partition("/")[0] in houses and path.count("/") > 1
    }
    assert there <= set(rooms()), "docs/architecture.md draws each folder, with one sentence"
    missing = [r for r in rooms() if not (ROOT / r).is_dir() and not (ROOT / f"{r}.py").is_file()]
    assert missing == [], "docs/architecture.md draws what is not there"


def test_a_room_imports_from_rooms_below_it_only() -> None:
    order = {room: number for number, room in enumerate(rooms())}
    upward = set()
    for path, tree in sources():
        here = room_of(path.split("/"))
        for module in modules_of(tree):
            there = room_of(module.split("."))
            same_house = here.partition("/")[0] == there.partition("/")[0]
            if same_house and order.get(there, 999) < order.get(here, -1):
                upward.add(f"{path} imports {module}")
    assert upward == set()


LARGEST_FILE = 400
LONGEST_FUNCTION = 50


@pytest.mark.parametrize("folder", [*PACKAGES, "client", "alembic", "tests"])
def test_no_file_and_no_function_is_too_long_to_read_at_once(folder: str) -> None:
    """A noun is missing if one is too long; migrations may be long: they are read only once."""
    found = [
        too_long
        for path in sorted((ROOT / folder).rglob("*.py"))
        for too_long in lengths_over(path.relative_to(ROOT).as_posix(), path.read_text())
    ]
    assert found == []


def lengths_over(path: str, code: str) -> Iterator[str]:
    """Yield one sentence for the file, and for each function, if it is too long."""
    lines = code.count("\n")
    if lines > LARGEST_FILE:
        yield f"{path} has {lines} lines"
    for node in nodes(parsed(code)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{path}: {node.name} has {lines} lines"


def test_what_is_too_long_would_be_seen() -> None:
    body = "    pass\n" * LONGEST_FUNCTION
    assert list(lengths_over("a.py", f"def short():\n{body[9:]}")) == []
    assert list(lengths_over("a.py", f"async def long():\n{body}")) == ["a.py: long has 51 lines"]
    assert list(lengths_over("a.py", "\n" * 401)) == ["a.py has 401 lines"]


def modules_of(tree: ast.Module) -> Iterator[str]:
    """Yield each imported module, also one that is imported by name from its package."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_broad_except_stands_only_at_the_edges_that_are_listed() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.split("\n## Edges\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    found = {
        path
        for path, tree in sources()
        if path.startswith(("api/", "worker/", "shared/", "local/"))
        for node in nodes(tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type)
    }
    assert found == listed


def is_broad(caught: ast.expr | None) -> bool:
    names = (
        {node.id for node in ast.walk(caught) if isinstance(node, ast.Name)} if caught else set()
    )
    return caught is None or "Exception" in names


def test_nothing_unpickles() -> None:
    users = {path for path, tree in sources() if imported(tree) & {"pickle", "cPickle", "dill"}}
    assert users == set()


def test_no_process_starts_with_a_model_library_nor_the_gateway_with_the_worker() -> None:
    """One process imports all of them in turn, because each start of Python takes a second."""
    script = (
        "import importlib, json, sys\n"
        "def met(*names): return sorted({name.split('.')[0] for name in sys.modules} & {*names})\n"
        f"models, found = {sorted(MODEL_LIBRARIES)!r}, []\n"
        "for name in ('api.app', 'api.__main__'): importlib.import_module(name)\n"
        "found += met(*models, 'numpy', 'worker')\n"
        "for name in ('worker.keeper.__main__', 'worker.__main__'):\n"
        "    importlib.import_module(name)\n"
        "    found += [name for _ in met(*models)]\n"
        "print(json.dumps(found))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (answer.stdout.strip(), answer.stderr) == ("[]", "")


def test_the_unit_tests_meet_no_model_library() -> None:
    """Each process of `make unit` imports all of its files, and torch and diffusers take 5 s."""
    paths = [*(ROOT / "tests").rglob("*.py"), *(ROOT / name for name, _ in sources())]
    modules = {
        path.relative_to(ROOT).as_posix()[:-3].replace("/", ".").removesuffix(".__init__"): path
        for path in paths
    }
    assert reaching(MODEL_LIBRARIES, "tests.unit.", modules) == set()
    assert "tests.support.checkpoints" in reaching({"torch"}, "tests.integration.", modules)


def reaching(libraries: set[str], start: str, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules that a start imports and that import one of the libraries early."""
    waiting = [name for name in modules if name.startswith(start)]
    seen, guilty = set(waiting), set()
    while waiting:
        name = waiting.pop()
        body = parsed(modules[name].read_text()).body
        early: list[ast.stmt] = [e for e in body if isinstance(e, ast.Import | ast.ImportFrom)]
        for module in modules_of(ast.Module(early, [])):
            parts = module.split(".")
            guilty |= {name} if parts[0] in libraries else set()
            inner = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            waiting += (inner & modules.keys()) - seen
            seen |= inner
    return guilty


def test_the_gateway_never_meets_the_worker() -> None:
    guilty = {
        path for path, tree in sources() if path.startswith("api/") and "worker" in imported(tree)
    }
    assert guilty == set()


def test_what_clients_name_is_reached_through_one_door() -> None:
    """Check that nothing else in the service imports a web client or opens a connection itself."""
    met = {
        path: clients
        for path, tree in sources()
        if path.startswith(("api/", "shared/", "worker/")) and (clients := web_clients(tree))
    }
    assert met == OUTGOING


@pytest.mark.parametrize(
    ("code", "client"),
    [
        ("import requests", "requests"),
        ("import urllib.request as web", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("from http.client import HTTPConnection", "http.client"),
        ("def late(): import httpx", "httpx"),
        ("httpx = import_module('httpx')", "httpx"),
        ("http = __import__('http.client')", "http.client"),
        ("socket.create_connection((host, 80))", "create_connection"),
        ("from socket import create_connection", "create_connection"),
        ("await asyncio.open_connection(host, 80)", "open_connection"),
        ("socket.socket().connect((host, 80))", "connect_ex"),
    ],
)
def test_a_second_door_would_be_seen(code: str, client: str) -> None:
    assert client in web_clients(ast.parse(code))


def web_clients(tree: ast.Module) -> set[str]:
    """Return the web clients that a module imports, early or late, and its own ways to dial."""
    names: set[str] = set()
    for node in nodes(tree):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), names=aliases):
                names |= {module, *(f"{module}.{alias.name}" for alias in aliases)}
                names |= {alias.name for alias in aliases} & DIALS
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
                names |= {name} if ast.unparse(function).endswith(LATE_IMPORTS) else set()
            case ast.Call(func=ast.Attribute(attr="connect"), args=[ast.Tuple(), *_]):
                names.add("connect_ex")  # It is a socket's: no signal and no engine takes a pair.
            case ast.Attribute(attr=name) if name in DIALS:
                names.add(name)
    tops = {name.partition(".")[0] for name in names}
    return (names | tops) & (WEB_CLIENTS | DIALS)


def test_nothing_waits_with_select() -> None:
    """`select` fails from descriptor 1024 on; `select.poll` does not."""
    guilty = {
        path
        for path, tree in sources()
        for node in nodes(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "SelectSelector")
        or (
            (isinstance(node, ast.ImportFrom) or getattr(node, "attr", "") == "select")
            and ast.unparse(node) in {"select.select", "from select import select"}
        )
    }
    assert guilty == set()


def test_no_client_of_ours_asks_the_environment_for_a_proxy() -> None:
    guilty = {
        f"{path}:{call.lineno}"
        for path, tree in sources()
        for call in nodes(tree)
        if isinstance(call, ast.Call) and may_use_a_proxy(call) and path not in BY_PROXY
    }
    assert guilty == set()


@pytest.mark.parametrize(
    ("code", "may"),
    [
        ("urllib.request.urlopen(url)", True),
        ("urllib.request.build_opener()", True),
        ("urllib.request.build_opener(urllib.request.ProxyHandler({}))", False),
        ("httpx2.Client(timeout=1)", True),
        ("httpx2.AsyncClient(trust_env=True)", True),
        ("httpx2.get(url)", True),
        ("httpx2.Client(timeout=1, trust_env=False)", False),
        ("Config(retries={})", True),
        ("Config(proxies={})", False),
        ("uvicorn.Config(app)", False),
    ],
)
def test_a_client_that_would_ask_is_seen(code: str, may: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert may_use_a_proxy(call) == may


def may_use_a_proxy(call: ast.Call) -> bool:
    """Return whether this call makes a client that reads HTTP_PROXY and similar variables."""
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    match ast.unparse(call.func).removeprefix("urllib.request."):
        case "urlopen":
            return True
        case "build_opener":
            return not any("ProxyHandler({})" in ast.unparse(given) for given in call.args)
        case "httpx2.Client" | "httpx2.AsyncClient":
            return options.get("trust_env") != "False"
        case "httpx2.get" | "httpx2.post" | "httpx2.put" | "httpx2.request" | "httpx2.stream":
            return options.get("trust_env") != "False"
        case "Config":  # This is botocore's.
            return options.get("proxies") != "{}"
    return False
