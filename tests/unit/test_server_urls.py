"""The addresses of the servers, as providers write them."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from shared.proxies import sparing_own_servers
from shared.server_urls import connect_arguments
from shared.settings import Settings
from shared.wrong_settings import wrong_settings
from tests.support.stack import ROOT

REST = "stillreel:pa%40ss@db.example.org:5433/stillreel?sslmode=require"


def refusal(*, database_url: str = "postgres://h/d", redis_url: str = "redis://h") -> str:
    with pytest.raises(ValidationError) as refused:
        Settings(
            _env_file=None,
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
        )
    return wrong_settings(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "POSTGRES"])
def test_every_spelling_of_postgres_is_the_same_address(scheme: str) -> None:
    settings = Settings(_env_file=None, database_url=SecretStr(f"{scheme}://{REST}"))
    assert settings.database_url.get_secret_value() == f"postgresql+psycopg://{REST}"


FAILOVER = "postgres://u:p%40ss@one:5432,two:5433/d?target_session_attrs=read-write"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://u@db.example.org/d", "db.example.org", ""),
        ("postgresql://u@[::1]:5433/d", "::1", "5433"),
        ("postgresql://u@db.example.org:/d", "db.example.org", "5432"),
        (FAILOVER, "one,two", "5432,5433"),
        ("postgresql://one,two/d", "one,two", "5432,5432"),
        ("postgresql://[fd12::1]:5433,[fd12::2]/d", "fd12::1,fd12::2", "5433,5432"),
        ("postgresql:///d?host=/run/postgresql", "/run/postgresql", ""),
        ("postgresql://u@%2Frun%2Fpostgresql/d", "/run/postgresql", "5432"),
        ("postgresql://u@%2Frun%2Fmy%20pg:5433/d", "/run/my pg", "5433"),
    ],
)
def test_an_address_means_the_servers_that_libpq_would_ask(url: str, host: str, port: str) -> None:
    settings = Settings(_env_file=None, database_url=SecretStr(url))
    arguments = connect_arguments(settings.database_url.get_secret_value())
    assert (arguments["host"], str(arguments.get("port", ""))) == (host, port)
    assert arguments["dbname"] == "d"


def test_every_server_of_an_address_is_ours() -> None:
    """No client's request may reach its port, and no proxy of the environment is used for it."""
    settings = Settings(_env_file=None, database_url=SecretStr(FAILOVER))
    assert {5432, 5433} <= settings.own_ports
    spared = sparing_own_servers({}, settings)["no_proxy"].split(",")
    assert {"one", "two"} <= set(spared)
    url = settings.database_url.get_secret_value()
    assert connect_arguments(url)["password"] == "p@ss"
    assert connect_arguments(url)["target_session_attrs"] == "read-write"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("postgresql+psycopg2://u:secret@h/d", "it names the driver psycopg2, which is not used"),
        ("postgres+asyncpg://u:secret@h/d", "it names the driver asyncpg"),
        ("mysql://u:secret@h/d", "it begins with postgresql://"),
        ("u:secret@h/d", "it begins with postgresql://"),
        ("postgresql:u:secret@h/d", "it begins with postgresql://"),
        ("", "it begins with postgresql://"),
        ("postgresql://u:secret@h:port/d", "its parts cannot be told from each other"),
        ("postgresql://u:secret@h:99999/d", "its port is no number from 1 to 65535"),
        ("postgresql://u:secret@h/d?pgbouncer=true", "Postgres has no option 'pgbouncer'"),
        ("postgresql://u:secret@h/d?sslmode=on", "sslmode takes disable, allow"),
        ("postgresql://u:secret@h/d?sslmode=allow&sslmode=require", "it has the option 'sslmode'"),
        ("postgresql://u:secret@h/d?target_session_attrs=rw", "target_session_attrs takes any"),
        ("postgresql://u:secret@h/d?port=x", "its hosts and ports do not go together"),
        ("postgresql://u:secret@h/d?host=a,b&port=1,2,3", "its hosts and ports do not go"),
        ("postgresql://u:secret@a:1,b:99999/d", "its port is no number from 1 to 65535"),
        ("postgresql://u:secret@h:0/d", "its port is no number from 1 to 65535"),
        ("postgresql://u:se@cret@h/d", "an @ in the user or the password is written %40"),
        ("postgresql://u:secret@h/d#x", "a # in it is written %23"),
    ],
)
def test_another_database_is_one_sentence_without_its_password(url: str, what: str) -> None:
    said = refusal(database_url=url)
    assert said.startswith(f"STILLREEL_DATABASE_URL: {what}")
    assert "secret" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("unix:///secret.sock", "it begins with redis://"),
        ("redis+sentinel://h:secret@h/0", "it begins with redis://"),
        ("h:6379", "it begins with redis://"),
        ("redis://:secret@h:port/0", "its port is no number"),
        ("redis://:secret@h/0?ssl_ca_certs=/ca.pem", "'ssl_ca_certs' is no option here"),
        ("rediss://:secret@h/0?socket_timeout=9", "'socket_timeout' is no option here"),
        ("rediss://:secret@h/0?ssl_cert_reqs=never", "ssl_cert_reqs takes required"),
    ],
)
def test_a_redis_that_only_one_library_could_read_is_refused(url: str, what: str) -> None:
    said = refusal(redis_url=url)
    assert said.startswith(f"STILLREEL_REDIS_URL: {what}")
    assert "secret" not in said


# One place reads both addresses, so each run checks one case, and the long run the others.
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("worker", "DATABASE_URL"),
        # These check the same line of the same settings, for one to two seconds of a core each.
        *(
            pytest.param(*pair, marks=pytest.mark.extended)
            for pair in (
                ("api", "REDIS_URL"),
                ("worker.keeper", "DATABASE_URL"),
                ("worker.keeper", "REDIS_URL"),
                ("api", "DATABASE_URL"),
                ("worker", "REDIS_URL"),
            )
        ),
    ],
)
def test_a_process_says_one_line_about_it_and_ends(module: str, name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={f"STILLREEL_{name}": "mysql://u:secret@h/d", "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    [line] = (done.stdout + done.stderr).strip().splitlines()
    assert line.startswith(f"the settings are wrong: STILLREEL_{name}: it begins with ")
    assert done.returncode != 0


def test_migrating_a_database_that_is_away_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={"STILLREEL_DATABASE_URL": "postgres://u:secret@127.0.0.1:1/d", "PATH": "/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    [line] = (done.stdout + done.stderr).strip().splitlines()
    assert line.startswith("the database of STILLREEL_DATABASE_URL did not answer: ")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("lease_seconds", "inf", "it should be a finite number"),
        ("drain_seconds", "1e300", "it should be less than or equal to"),
        ("retain_seconds", "10000000000000", "it should be less than or equal to"),
        ("webhook_schedule", "0,1e300", "it takes seconds from 0 on"),
        ("cpu_workers", "100000", "it should be less than or equal to 256"),
        ("worker_id", "a/b", "it takes letters, digits"),
        ("worker_id", "%h", "it takes letters, digits"),
        ("s3_bucket", "my bucket", "it takes letters, digits"),
        ("s3_region", "eu central", "it is one word like us-east-1"),
        ("s3_endpoint", "http://store:port", "it begins with https:// or http://"),
        ("s3_endpoint", "http://st ore", "it begins with https:// or http://"),
    ],
)
def test_what_would_fail_later_is_refused_at_the_start(
    name: str, value: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"STILLREEL_{name.upper()}", value)
    with pytest.raises(ValidationError) as refused:
        Settings(_env_file=None)
    assert wrong_settings(refused.value).startswith(f"STILLREEL_{name.upper()}: {what}")
