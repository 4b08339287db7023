"""The settings of every process: one class, read once at the start and passed in."""

import difflib
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.env_file import EnvFileError, read_env_file
from shared.server_urls import postgres_url, redis_url

PREFIX: Final = "STILLREEL_"
ELSEWHERE: Final = ("BIND", "MODELS", "CLOSE_INSIDE", "SECRETS_DIR", "REMOTE_ENGINES")
"""What only Compose and the start of a process read."""


LONGEST_SECONDS: Final = 100 * 365 * 24 * 3600
"""More would be later than any date the database knows."""

MOST_CPU_WORKERS: Final = 256

PROVIDERS: Final = ("runway", "fal")

MOST_USD: Final = 1_000_000
"""In millionths it is far from the largest number of the database."""

MOST_REMOTE_JOBS: Final = 256
"""Each is a thread and a connection to the database in one process."""

MOST_WARM_SHAPES: Final = 8
"""Each takes minutes to compile, before its worker takes a job."""

SECRETS_DIR_VARIABLE: Final = "STILLREEL_SECRETS_DIR"
"""Names a folder of files called like the fields; what is set elsewhere wins over them."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Where only programs of this machine can ask."""

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_ADDRESS: Final = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/\S*)?"
)
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_REGION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_WORKER_ID: Final = re.compile(r"[\w.-]{1,200}")
_ADMIN_KEY: Final = re.compile(r"[\x21-\x7e]{24,}")
_SECRET: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]{32,}")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_OTHER_HEADERS: Final = frozenset({"authorization", "cookie", "host", "origin", "sec-fetch-site"})
_RATE: Final = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour)|none")
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

_PUBLIC_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*"
)


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in value.split(",")) if part)


# The library's reader has looked at the file before ours takes its place; what it does not
# understand in it is no news.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)


class _EnvFile(DotEnvSettingsSource):
    """`.env` with the meaning that Compose gives it."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            values = read_env_file(file_path)
        except EnvFileError as error:
            raise SettingsError(str(error)) from None
        return {name.lower(): value for name, value in values.items()}


class Settings(BaseSettings):
    """Settings from the environment (prefix `STILLREEL_`), `.env` and secret files.

    Durations are seconds, sizes bytes, lists comma-separated strings.
    """

    model_config = SettingsConfigDict(
        env_prefix="STILLREEL_",
        env_file=".env",
        env_file_encoding="latin-1",  # For the library's reader, which `_EnvFile` replaces.
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # It may be a secret: one field's error shows all of them.
    )

    database_url: SecretStr = SecretStr("postgresql+psycopg://stillreel@127.0.0.1:5432/stillreel")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")

    s3_endpoint: str = "http://127.0.0.1:8333"
    s3_public_endpoint: str | None = None
    s3_bucket: str = "stillreel"
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")

    host: str = "127.0.0.1"
    port: int = Field(default=7860, ge=1, le=65535)
    public_url: str | None = None
    allow_anonymous: bool = False
    admin_key: SecretStr | None = None

    secret: SecretStr | None = None
    link_seconds: int = Field(default=24 * 3600, ge=60, le=30 * 24 * 3600)

    cors_origins: str = ""

    trusted_proxy: str = ""
    trusted_header: str | None = None
    trusted_admins: str = ""

    max_queued_per_key: int = Field(default=1000, ge=1)
    max_running_per_key: int | None = Field(default=None, ge=1)
    runway_key: SecretStr | None = None
    runway_key_file: Path | None = None
    runway_url: str = "https://api.dev.runwayml.com"
    fal_key: SecretStr | None = None
    fal_key_file: Path | None = None
    fal_url: str = "https://queue.fal.run"
    send_images_to: str = ""
    paid_usd_per_day: float = Field(default=10, ge=0, le=MOST_USD)
    rate_limit: str = "50/second"
    max_streams_per_key: int = Field(default=1000, ge=1)

    engines: str = "auto"
    gpus: str = "all"
    cpu_workers: int = Field(default=1, ge=1, le=MOST_CPU_WORKERS)
    openai_videos_key: SecretStr | None = None
    remote_jobs: int = Field(default=8, ge=1, le=MOST_REMOTE_JOBS)
    memory: Literal["auto", "normal", "low"] = "auto"
    compile: Literal["auto", "on", "off"] = "off"
    warm_shapes: str = "512x512x16"
    model_dir: Path | None = None
    weights_dir: Path | None = None
    download_weights: bool = True
    hf_endpoint: str | None = None
    hf_token: SecretStr | None = None
    model_source: Literal["huggingface", "modelscope"] = "huggingface"
    allow_noncommercial_models: bool = True

    worker_id: str | None = None

    lease_seconds: float = Field(default=60, gt=0, le=LONGEST_SECONDS)
    keeper_tick_seconds: float = Field(default=1, gt=0, le=LONGEST_SECONDS)
    max_attempts: int = Field(default=3, ge=1)
    drain_seconds: float = Field(default=60, ge=0, le=LONGEST_SECONDS)
    generate_timeout_seconds: float = Field(default=1800, gt=0, le=LONGEST_SECONDS)
    webhook_schedule: str = "0,5,300,1800,7200,18000,36000,50400,72000,86400"
    outbound_allow: str = ""
    closed_ports: str = ""

    min_free_bytes: int = Field(default=256 * 1024 * 1024, ge=0)
    max_upload_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    max_pixels: int = Field(default=64_000_000, ge=1024)
    retain_seconds: int = Field(default=30 * 24 * 3600, ge=60, le=LONGEST_SECONDS)
    purge_seconds: int = Field(default=90 * 24 * 3600, ge=0, le=LONGEST_SECONDS)

    data_dir: Path = Path(".data")
    log_format: Literal["json", "console"] = "json"
    log_level: str = "INFO"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        folder = os.environ.get(SECRETS_DIR_VARIABLE)
        if folder and not Path(folder).is_dir():
            # The library only warns; a process would then run on with the defaults' passwords.
            raise SettingsError(f"{SECRETS_DIR_VARIABLE} names {folder}, which is not a folder")
        files = SecretsSettingsSource(settings_cls, secrets_dir=folder or None, env_prefix="")
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        env_file = _EnvFile(settings_cls, env_file=dotenv_settings.env_file)
        return init_settings, env_settings, env_file, files

    @field_validator(
        *(
            "s3_public_endpoint",
            "public_url",
            "admin_key",
            "secret",
            "trusted_header",
            "max_running_per_key",
        ),
        *("model_dir", "weights_dir", "hf_endpoint", "hf_token", "worker_id"),
        *("openai_videos_key", "runway_key", "runway_key_file", "fal_key", "fal_key_file"),
        mode="before",
    )
    @classmethod
    def _nothing_is_none(cls, value: object) -> object:
        return None if value == "" else value  # `.env` files have lines that end at the sign.

    @field_validator("database_url")
    @classmethod
    def _postgres_is_named(cls, value: SecretStr) -> SecretStr:
        return SecretStr(postgres_url(value.get_secret_value()))

    @field_validator("redis_url")
    @classmethod
    def _redis_is_named(cls, value: SecretStr) -> SecretStr:
        return SecretStr(redis_url(value.get_secret_value()))

    @field_validator("hf_token")
    @classmethod
    def _token_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value().strip()
        if text and not _TOKEN.fullmatch(text):
            raise ValueError("it is one word of visible ASCII characters, like hf_...")
        return SecretStr(text) if text else None

    @field_validator("admin_key")
    @classmethod
    def _admin_key_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value()
        if text and not _ADMIN_KEY.fullmatch(text):
            raise ValueError("it takes 24 visible ASCII characters or more, and no blanks")
        return value if text else None  # A `SecretStr("")` is nothing too.

    @field_validator("secret")
    @classmethod
    def _secrets_are_long(cls, value: SecretStr | None) -> SecretStr | None:
        parts = _listed("" if value is None else value.get_secret_value())
        if not all(_SECRET.fullmatch(part) for part in parts):
            raise ValueError(
                "it takes 32 visible ASCII characters or more, or a comma list of such: the first"
                " one signs, and each is believed"
            )
        return value if parts else None

    @field_validator("webhook_schedule")
    @classmethod
    def _schedule_is_numbers(cls, value: str) -> str:
        try:
            seconds = [float(part) for part in value.split(",")]
        except ValueError as error:
            raise ValueError("it is a comma list of seconds, like 0,5,300") from error
        if not all(math.isfinite(each) and 0 <= each <= LONGEST_SECONDS for each in seconds):
            raise ValueError("it takes seconds from 0 on, like 0,5,300")
        return value

    @field_validator("warm_shapes")
    @classmethod
    def _shapes_parse(cls, value: str) -> str:
        parts = _listed(value)
        if not all(re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", part) for part in parts):
            raise ValueError("it is a comma list of width x height x frames, like 512x512x16")
        if len(parts) > MOST_WARM_SHAPES:
            raise ValueError(f"it holds at most {MOST_WARM_SHAPES} clips")
        return value

    @field_validator("closed_ports")
    @classmethod
    def _ports_parse(cls, value: str) -> str:
        for part in _listed(value):
            if not re.fullmatch(r"[1-9]\d{0,4}", part) or int(part) > 65535:
                raise ValueError(f"{part!r} is no port; it is a comma list, like 9333,8888")
        return value

    @field_validator("trusted_header")
    @classmethod
    def _header_is_one(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value and (not _HEADER.fullmatch(value) or value.lower() in _OTHER_HEADERS):
            raise ValueError(
                "it takes the name of the header that the login proxy sets, like Remote-User or"
                " X-Auth-Request-Email"
            )
        if value and not _listed(others.data.get("trusted_proxy", "")):
            raise ValueError(
                "it is believed from STILLREEL_TRUSTED_PROXY alone; name the login proxy's address"
                " there, like 10.1.2.3/32"
            )
        return value

    @field_validator("outbound_allow", "trusted_proxy")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        for part in _listed(value):
            try:
                ip_network(part)
            except ValueError as error:
                raise ValueError(
                    f"{part!r} is no network;{_nearest_network(part)} one is written like"
                    " 10.1.0.0/16, 10.1.2.3/32 or fd12:3456::/48"
                ) from error
        return value

    @field_validator("send_images_to")
    @classmethod
    def _providers_are_known(cls, value: str) -> str:
        for part in _listed(value):
            if part not in PROVIDERS:
                raise ValueError(f"{part!r} is no provider; it takes {', '.join(PROVIDERS)}")
        return value

    @field_validator("s3_endpoint", "s3_public_endpoint", "hf_endpoint", "runway_url", "fal_url")
    @classmethod
    def _address_is_whole(cls, value: str | None) -> str | None:
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("it begins with https:// or http://, like https://store.example.org")
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _bucket_can_be(cls, value: str) -> str:
        if not _BUCKET.fullmatch(value):
            raise ValueError("it takes letters, digits, dots, dashes and underscores")
        return value

    @field_validator("s3_region")
    @classmethod
    def _region_can_be(cls, value: str) -> str:
        if not _REGION.fullmatch(value):
            raise ValueError("it is one word like us-east-1, or auto")
        return value

    @field_validator("worker_id")
    @classmethod
    def _worker_id_can_be(cls, value: str | None) -> str | None:
        if value is not None and not _WORKER_ID.fullmatch(value):
            raise ValueError("it takes letters, digits, dots, dashes and underscores")
        return value

    @field_validator("log_level")
    @classmethod
    def _level_is_one(cls, value: str) -> str:
        if value.upper() not in LOG_LEVELS:
            raise ValueError(f"{value!r} is no level; it takes {', '.join(LOG_LEVELS)}")
        return value.upper()

    @field_validator("rate_limit")
    @classmethod
    def _rate_is_one(cls, value: str) -> str:
        if not _RATE.fullmatch(value):
            raise ValueError(
                f"{value!r} is no rate; it takes one like 50/second, 600/minute or 9000/hour,"
                " or none"
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_whole(cls, value: str) -> str:
        for origin in _listed(value):
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin; one is written like"
                    " https://video.example.org or http://localhost:3000, without a path"
                )
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_whole(cls, value: str | None) -> str | None:
        if value is not None and not _PUBLIC_URL.fullmatch(value):
            raise ValueError(
                "it begins with https:// or http:// and ends without a slash, like"
                " https://video.example.org or https://example.org/stillreel"
            )
        return value

    @property
    def own_url(self) -> str:
        """Where links begin that are made without a request, as in webhooks."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 (compared)
        if ":" in host:
            host = f"[{host}]"
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The installation's secret, and after it those before it that still count."""
        return _listed("" if self.secret is None else self.secret.get_secret_value())

    @property
    def link_lives(self) -> timedelta:
        return timedelta(seconds=self.link_seconds)

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Where the login proxy sends from."""
        return tuple(ip_network(part) for part in _listed(self.trusted_proxy))

    @cached_property
    def admin_logins(self) -> frozenset[str]:
        return frozenset(_listed(self.trusted_admins))

    @cached_property
    def own_ports(self) -> frozenset[int]:
        """Where this service's own parts listen; 80 and 443 are everybody's."""
        parts = {
            self.port,
            _port(self.database_url.get_secret_value(), usual=5432),
            _port(self.redis_url.get_secret_value(), usual=6379),
            _port(self.s3_endpoint, usual=80),
        }
        return frozenset(parts - {80, 443})

    @cached_property
    def inner_ports(self) -> frozenset[int]:
        """Where the servers' parts listen that no other setting names."""
        return frozenset(map(int, _listed(self.closed_ports)))

    @cached_property
    def send_images_to_providers(self) -> frozenset[str]:
        """Providers that pictures and prompts may be sent to."""
        return frozenset(_listed(self.send_images_to))

    @property
    def paid_micros_per_day(self) -> int:
        """What a key may spend on hosted models a UTC day, in millionths of a dollar."""
        return round(self.paid_usd_per_day * 1_000_000)

    @property
    def weights_folder(self) -> Path:
        """Where downloaded weights lie, in a folder for each engine."""
        return self.weights_dir or self.data_dir / "weights"

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def retain(self) -> timedelta:
        return timedelta(seconds=self.retain_seconds)

    @property
    def purge(self) -> timedelta:
        return timedelta(seconds=self.purge_seconds)

    @cached_property
    def webhook_delays(self) -> tuple[timedelta, ...]:
        """The wait before each try; its length is the number of tries."""
        return tuple(timedelta(seconds=float(part)) for part in self.webhook_schedule.split(","))

    @property
    def first_try(self) -> timedelta:
        """The wait before a webhook is tried for the first time."""
        return self.webhook_delays[0]

    @cached_property
    def allowed_origins(self) -> tuple[str, ...]:
        """The origins whose pages may call the API; `*` alone stands for all."""
        return _listed(self.cors_origins)

    @cached_property
    def warm_clips(self) -> tuple[tuple[int, int, int], ...]:
        """Width, height and frames of each clip that is compiled for."""
        sizes = ([int(size) for size in part.split("x")] for part in _listed(self.warm_shapes))
        return tuple((width, height, frames) for width, height, frames in sizes)

    @cached_property
    def outbound_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part) for part in _listed(self.outbound_allow))


def _nearest_network(text: str) -> str:
    try:
        return f" the nearest is {ip_network(text, strict=False)};"
    except ValueError:
        return ""


def _port(url: str, *, usual: int) -> int:
    """Return the port a service's URL names; its driver reads more spellings than this does."""
    try:
        return urlsplit(url).port or usual
    except ValueError:
        return usual


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        SystemExit: they are wrong; its one sentence names the settings, never their values.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit(f"the settings are wrong: {wrong_settings(error)}") from None
    except SettingsError as error:
        raise SystemExit(f"the settings are wrong: {error}") from None


def wrong_settings(error: ValidationError) -> str:
    """Return each wrong setting with what would be right, as one sentence."""
    return "; ".join(
        f"{_variable(found['loc'])}: {_in_words(found['type'], found['msg'], found.get('ctx'))}"
        for found in error.errors(include_url=False)
    )


def misspelled_settings(given: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each variable that is named like a setting and is none.

    Args:
        given: names of variables, ours and others.
        known: the settings' own names, without the prefix.
    """
    names = [name.upper() for name in (*known, *ELSEWHERE)]
    for variable in sorted(set(given)):
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in names:
            nearest = difflib.get_close_matches(name, names, n=1)
            hint = (
                f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ", and counts for nothing"
            )
            yield f"{variable} is no setting{hint}"


def open_to_strangers(host: str) -> str:
    """Return why a gateway does not listen there before there is a key, and what helps."""
    return (
        f"STILLREEL_HOST {host} is not loopback, and there is no API key; make one"
        " (`make key NAME=cms` while it runs on loopback, or `python -m api keys create cms`),"
        " set STILLREEL_ADMIN_KEY, or let everybody in with STILLREEL_ALLOW_ANONYMOUS=1"
    )


def _in_words(kind: str, message: str, context: Mapping[str, Any] | None) -> str:
    """Return pydantic's finding as ours would be said; it has no value in it."""
    if kind == "value_error":
        return str((context or {})["error"])
    said = message.partition(", unable to")[0].replace("Input should be", "it should be")
    return said.replace("valid integer", "whole number").replace("a valid boolean", "0 or 1")


def _variable(loc: Sequence[int | str]) -> str:
    return f"{PREFIX}{'_'.join(map(str, loc))}".upper()
