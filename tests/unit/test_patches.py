"""No test sets a constant of ours to another value: what a test needs is passed in."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
OURS = ("api", "worker", "shared", "local", "bench", "deploy", "stillreel")
DOTTED = re.compile(rf"({'|'.join(OURS)})(\.[a-z_0-9]+)+\.[A-Z][A-Z_]+")
STILL_PATCHED = {
    "api.compat.replicate.routes.PAGE",
    "api.concurrency.known_jobs.PATIENCE_SECONDS",
    "api.concurrency.owner_feeds.MOST_NEWS",
    "api.concurrency.thread_pools.DATABASE_PATIENCE_SECONDS",
    "api.concurrency.thread_pools.PATIENCE_SECONDS",
    "api.concurrency.turns.LONGEST_SECONDS",
    "api.monitoring.admin_queries.LOOKED_AT",
    "api.monitoring.readiness.FRESH",
    "api.monitoring.readiness.PATIENCE",
    "api.monitoring.readiness.REDIS_SECONDS",
    "api.ports.STORAGE_READ",
    "api.responses.following.KEEP_ALIVE_SECONDS",
    "local.env_file.ROOT",
    "local.install.PYTHON",
    "local.install.ROOT",
    "local.install.STAMP",
    "local.launcher.ONE_REQUEST_SECONDS",
    "local.processes.supervisor.FIRST_RESTART_SECONDS",
    "local.processes.supervisor.UPKEEP_SECONDS",
    "local.servers.seaweed.SOCKETS",
    "shared.api_keys.sessions.MOST_OF_A_KEY",
    "shared.bell.CHANNEL",
    "shared.bell.SOCKET_SECONDS",
    "shared.db.CONNECT_SECONDS",
    "shared.db.POOL_WAIT_SECONDS",
    "shared.jobs.listing.SEARCHED",
    "shared.jobs.news.NEWEST",
    "shared.jobs.preview_store.SOCKET_SECONDS",
    "shared.outbound.pinned_connection.CONNECT_SECONDS",
    "shared.uploads.MAX_LIVE",
    "shared.webhooks.delivery_log.MAX_REPLAYED",
    "stillreel.event_stream.REOPEN_SECONDS",
    "stillreel.follow.LEAST_PAUSE_SECONDS",
    "stillreel.follow.LIST_PAUSE_SECONDS",
    "stillreel.retry.FIRST_PAUSE_SECONDS",
    "worker.engines.remote.openai_videos.backend.FAIL_PAUSE_SECONDS",
    "worker.engines.remote.openai_videos.engine.DOWNLOAD",
    "worker.engines.remote.openai_videos.engine.MOST_CLIP_BYTES",
    "worker.keeper.orphan_images.GRACE",
    "worker.keeper.orphan_images.PAGE",
    "worker.keeper.purge.BATCH",
    "worker.render.lease.STAGES",
    "worker.supervisor.gpus.DRIVER",
    "worker.supervisor.gpus.NVIDIA_SMI_SECONDS",
    "worker.supervisor.gpus.PCI",
    "worker.weights.catalogue.LAYOUTS",
    "worker.weights.commands.LAYOUTS",
    "worker.weights.shelf.LAYOUTS",
}
"""What tests set to other values where it cannot be passed in yet: this list only gets shorter."""


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
    """Yield each constant of ours that a file of tests sets by `setattr`."""
    names = names_of(tree)
    for node in ast.walk(tree):
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
    files = {path for path in TESTS.rglob("*.py") if path != Path(__file__)}
    found = {name for path in files for name in patched_constants(ast.parse(path.read_text()))}
    assert found - STILL_PATCHED == set()


def test_a_patched_constant_would_be_seen() -> None:
    code = """
from shared import bell
import shared.db as database
monkeypatch.setattr(bell, "SOCKET_SECONDS", 1)
patched.setattr("api.ports.KEY_DEADLINE", 1)
patch.setattr(database, "CONNECT_SECONDS", 1)
monkeypatch.setattr(bell, "client", None)
monkeypatch.setattr("socket.AF_INET", 1)
"""
    assert set(patched_constants(ast.parse(code))) == {
        *("shared.bell.SOCKET_SECONDS", "api.ports.KEY_DEADLINE", "shared.db.CONNECT_SECONDS")
    }
