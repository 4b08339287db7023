"""The settings of every process: one class, read once at the start and passed in."""

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared import setting_values as checks
from shared.env_file import EnvFileError, read_env_file
from shared.secret_files import SecretFileError, read_secret_files
from shared.server_urls import postgres_servers
from shared.setting_values import LONGEST_SECONDS, listed
from shared.wrong_settings import wrong_settings

MOST_CPU_WORKERS: Final = 256

MOST_USD: Final = 1_000_000
"""In millionths it is far from the largest number of the database."""

MOST_REMOTE_JOBS: Final = 256
"""Each is a thread and a connection to the database in one process."""

SECRETS_DIR_VARIABLE: Final = "STILLREEL_SECRETS_DIR"
"""Names a folder of files that are named like the fields; values from other sources win over
them."""

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""Addresses that only programs of this machine can reach."""


# The library's reader reads the file before ours replaces it, so its complaints about the file are
# of no use.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)


class _EnvFile(DotEnvSettingsSource):
    """`.env` with the meaning that Compose gives it."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            values = read_env_file(file_path)
        except EnvFileError as error:
            raise SettingsError(str(error)) from None
        # A line that ends at its equals sign sets nothing.
        return {name.lower(): value for name, value in values.items() if value}


class Settings(BaseSettings):
    """Settings from the environment (prefix `STILLREEL_`), `.env` and secret files.

    Durations are seconds, sizes bytes, lists comma-separated strings.
    """

    model_config = SettingsConfigDict(
        env_prefix="STILLREEL_",
        env_file=".env",
        env_file_encoding="latin-1",  # For the library's reader, which `_EnvFile` replaces.
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        # The value may be a secret, and the error of one field shows the values of all.
        hide_input_in_errors=True,
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
            # The library only warns; a process would then go on with the default passwords.
            raise SettingsError(f"{SECRETS_DIR_VARIABLE} names {folder}, which is not a folder")
        try:
            found = read_secret_files(Path(folder), settings_cls.model_fields) if folder else {}
        except SecretFileError as error:
            raise SettingsError(f"{SECRETS_DIR_VARIABLE}: {error}") from None
        files = InitSettingsSource(settings_cls, init_kwargs=found)
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        env_file = _EnvFile(settings_cls, env_file=dotenv_settings.env_file)
        return init_settings, env_settings, env_file, files

    _home_is_meant = field_validator(
        *("model_dir", "weights_dir", "data_dir", "runway_key_file", "fal_key_file"),
        mode="before",
    )(checks.home_is_meant)
    _logins_are_listed = field_validator("trusted_admins")(checks.logins_are_listed)
    _postgres_is_named = field_validator("database_url")(checks.postgres_is_named)
    _redis_is_named = field_validator("redis_url")(checks.redis_is_named)
    _token_can_be_sent = field_validator("hf_token")(checks.token_can_be_sent)
    _admin_key_is_long = field_validator("admin_key")(checks.admin_key_is_long)
    _secrets_are_long = field_validator("secret")(checks.secrets_are_long)
    _schedule_is_numbers = field_validator("webhook_schedule")(checks.schedule_is_numbers)
    _shapes_parse = field_validator("warm_shapes")(checks.shapes_parse)
    _ports_parse = field_validator("closed_ports")(checks.ports_parse)
    _header_is_one = field_validator("trusted_header")(checks.header_is_one)
    _networks_parse = field_validator("outbound_allow", "trusted_proxy")(checks.networks_parse)
    _providers_are_known = field_validator("send_images_to")(checks.providers_are_known)
    _address_is_whole = field_validator(
        "s3_endpoint", "s3_public_endpoint", "hf_endpoint", "runway_url", "fal_url"
    )(checks.address_is_whole)
    _bucket_can_be = field_validator("s3_bucket")(checks.bucket_can_be)
    _region_can_be = field_validator("s3_region")(checks.region_can_be)
    _worker_id_can_be = field_validator("worker_id")(checks.worker_id_can_be)
    _level_is_one = field_validator("log_level")(checks.level_is_one)
    _rate_is_one = field_validator("rate_limit")(checks.rate_is_one)
    _origins_are_whole = field_validator("cors_origins")(checks.origins_are_whole)
    _public_url_is_whole = field_validator("public_url")(checks.public_url_is_whole)

    @property
    def own_url(self) -> str:
        """The beginning of links that are made without a request, as in webhooks."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 (compared)
        if ":" in host:
            host = f"[{host}]"
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The installation's secret, and after it the earlier ones that are still valid."""
        return listed("" if self.secret is None else self.secret.get_secret_value())

    @property
    def link_lives(self) -> timedelta:
        return timedelta(seconds=self.link_seconds)

    @cached_property
    def trusted_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The addresses of the login proxy."""
        return tuple(ip_network(part) for part in listed(self.trusted_proxy))

    @cached_property
    def admin_logins(self) -> frozenset[str]:
        return frozenset(listed(self.trusted_admins))

    @cached_property
    def own_ports(self) -> frozenset[int]:
        """The ports on which this service's own parts listen; 80 and 443 are not counted."""
        parts = {
            self.port,
            *postgres_servers(self.database_url.get_secret_value())[1],
            _port(self.redis_url.get_secret_value(), usual=6379),
            _port(self.s3_endpoint, usual=80),
        }
        return frozenset(parts - {80, 443})

    @cached_property
    def inner_ports(self) -> frozenset[int]:
        """The ports of the servers' inner parts that no other setting names."""
        return frozenset(map(int, listed(self.closed_ports)))

    @cached_property
    def send_images_to_providers(self) -> frozenset[str]:
        """Providers to which images and prompts may be sent."""
        return frozenset(listed(self.send_images_to))

    @property
    def paid_micros_per_day(self) -> int:
        """What a key may spend on hosted models in a UTC day, in millionths of a dollar."""
        return round(self.paid_usd_per_day * 1_000_000)

    @property
    def weights_folder(self) -> Path:
        """The folder of downloaded weights, with a folder for each engine."""
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
        return listed(self.cors_origins)

    @cached_property
    def warm_clips(self) -> tuple[tuple[int, int, int], ...]:
        """Width, height and frames of each clip to compile for."""
        sizes = ([int(size) for size in part.split("x")] for part in listed(self.warm_shapes))
        return tuple((width, height, frames) for width, height, frames in sizes)

    @cached_property
    def outbound_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part) for part in listed(self.outbound_allow))


def _port(url: str, *, usual: int) -> int:
    """Return the port in a service's URL; its driver reads more spellings than this does."""
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
