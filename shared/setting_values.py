"""Checks of the values of settings; each error says what would be right."""

import math
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationInfo

from shared.server_urls import postgres_url, redis_url

LONGEST_SECONDS: Final = 100 * 365 * 24 * 3600
"""More would be later than any date the database knows."""

PROVIDERS: Final = ("runway", "fal")

MOST_WARM_SHAPES: Final = 8
"""Each shape takes minutes to compile, before its worker takes a job."""

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


def listed(value: str) -> tuple[str, ...]:
    """Return the parts of a comma list."""
    return tuple(part for part in (part.strip() for part in value.split(",")) if part)


def home_is_meant(value: object) -> object:
    """Return a path with `~` replaced by the home folder, as a shell would have done."""
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(
            "~ stands for a home folder, and there is none; write all of it"
        ) from error


def logins_are_listed(value: str) -> str:
    for part in listed(value):
        if re.search(r'[\[\]";]', part):
            raise ValueError(f"{part!r} is no login; it is a comma list, like ann,bob@example.org")
    return value


def postgres_is_named(value: SecretStr) -> SecretStr:
    return SecretStr(postgres_url(value.get_secret_value()))


def redis_is_named(value: SecretStr) -> SecretStr:
    return SecretStr(redis_url(value.get_secret_value()))


def token_can_be_sent(value: SecretStr | None) -> SecretStr | None:
    text = "" if value is None else value.get_secret_value().strip()
    if text and not _TOKEN.fullmatch(text):
        raise ValueError("it is one word of visible ASCII characters, like hf_...")
    return SecretStr(text) if text else None


def admin_key_is_long(value: SecretStr | None) -> SecretStr | None:
    text = "" if value is None else value.get_secret_value()
    if text and not _ADMIN_KEY.fullmatch(text):
        raise ValueError("it takes 24 visible ASCII characters or more, and no blanks")
    return value if text else None  # A `SecretStr("")` counts as no value too.


def secrets_are_long(value: SecretStr | None) -> SecretStr | None:
    parts = listed("" if value is None else value.get_secret_value())
    if not all(_SECRET.fullmatch(part) for part in parts):
        raise ValueError(
            "it takes 32 visible ASCII characters or more, or a comma list of such: the first one"
            " signs, and links of each are accepted"
        )
    return value if parts else None


def schedule_is_numbers(value: str) -> str:
    try:
        seconds = [float(part) for part in value.split(",")]
    except ValueError as error:
        raise ValueError("it is a comma list of seconds, like 0,5,300") from error
    if not all(math.isfinite(each) and 0 <= each <= LONGEST_SECONDS for each in seconds):
        raise ValueError("it takes seconds from 0 on, like 0,5,300")
    return value


def shapes_parse(value: str) -> str:
    parts = listed(value)
    if not all(re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", part) for part in parts):
        raise ValueError("it is a comma list of width x height x frames, like 512x512x16")
    if len(parts) > MOST_WARM_SHAPES:
        raise ValueError(f"it holds at most {MOST_WARM_SHAPES} clips")
    return value


def ports_parse(value: str) -> str:
    for part in listed(value):
        if not re.fullmatch(r"[1-9]\d{0,4}", part) or int(part) > 65535:
            raise ValueError(f"{part!r} is no port; it is a comma list, like 9333,8888")
    return value


def header_is_one(value: str | None, others: ValidationInfo) -> str | None:
    if value and (not _HEADER.fullmatch(value) or value.lower() in _OTHER_HEADERS):
        raise ValueError(
            "it takes the name of the header that the login proxy sets, like Remote-User or"
            " X-Auth-Request-Email"
        )
    if value and not listed(others.data.get("trusted_proxy", "")):
        raise ValueError(
            "it is accepted only from STILLREEL_TRUSTED_PROXY; name the login proxy's address"
            " there, like 10.1.2.3/32"
        )
    return value


def networks_parse(value: str) -> str:
    for part in listed(value):
        try:
            ip_network(part)
        except ValueError as error:
            raise ValueError(
                f"{part!r} is no network;{_nearest_network(part)} one is written like"
                " 10.1.0.0/16, 10.1.2.3/32 or fd12:3456::/48"
            ) from error
    return value


def providers_are_known(value: str) -> str:
    for part in listed(value):
        if part not in PROVIDERS:
            raise ValueError(f"{part!r} is no provider; it takes {', '.join(PROVIDERS)}")
    return value


def address_is_whole(value: str | None) -> str | None:
    if value and not _ADDRESS.fullmatch(value):
        raise ValueError("it begins with https:// or http://, like https://store.example.org")
    return value


def bucket_can_be(value: str) -> str:
    if not _BUCKET.fullmatch(value):
        raise ValueError("it takes letters, digits, dots, dashes and underscores")
    return value


def region_can_be(value: str) -> str:
    if not _REGION.fullmatch(value):
        raise ValueError("it is one word like us-east-1, or auto")
    return value


def worker_id_can_be(value: str | None) -> str | None:
    if value is not None and not _WORKER_ID.fullmatch(value):
        raise ValueError("it takes letters, digits, dots, dashes and underscores")
    return value


def level_is_one(value: str) -> str:
    if value.upper() not in LOG_LEVELS:
        raise ValueError(f"{value!r} is no level; it takes {', '.join(LOG_LEVELS)}")
    return value.upper()


def rate_is_one(value: str) -> str:
    if not _RATE.fullmatch(value):
        raise ValueError(
            f"{value!r} is no rate; it takes one like 50/second, 600/minute or 9000/hour, or none"
        )
    return value


def origins_are_whole(value: str) -> str:
    for origin in listed(value):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin!r} is no origin; one is written like"
                " https://video.example.org or http://localhost:3000, without a path"
            )
    return value


def public_url_is_whole(value: str | None) -> str | None:
    if value is not None and not _PUBLIC_URL.fullmatch(value):
        raise ValueError(
            "it begins with https:// or http:// and ends without a slash, like"
            " https://video.example.org or https://example.org/stillreel"
        )
    return value


def _nearest_network(text: str) -> str:
    try:
        return f" the nearest is {ip_network(text, strict=False)};"
    except ValueError:
        return ""
