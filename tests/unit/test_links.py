"""Which link opens which file, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from starlette.types import Scope

from api.auth.signed_link import read_link
from shared.errors.access import LinkExpired, LinkRefused
from shared.ids import new_id
from shared.installation_secret import InstallationSecret, Purpose
from shared.jobs.job import Job, Variant, public_id
from shared.jobs.links import Links
from shared.settings import Settings

NOW = datetime(2026, 3, 1, 12, 20, tzinfo=UTC)
DAY = timedelta(hours=24)
OLD, NEW = "o" * 32, "n" * 32


def links(*secrets: str, lives: timedelta = DAY) -> Links:
    return Links(InstallationSecret(secrets or (NEW,)).keys(Purpose.LINKS), lives=lives)


class _Row:
    """A job with only the fields that a link needs."""

    def __init__(self, epoch: int | None = 3) -> None:
        self.id = new_id()
        self.link_epoch = epoch


def job(epoch: int | None = 3) -> Job:
    return cast(Job, _Row(epoch))


def asked(url: str, method: str = "GET") -> Scope:
    parts = urlsplit(url)
    return {"method": method, "path": parts.path, "query_string": parts.query.encode()}


def read(
    url: str, by: Links | None = None, *, method: str = "GET", after: timedelta = timedelta()
) -> Any:
    return read_link(asked(url, method), by or links(), now=(NOW + after).timestamp())


def changed(url: str, **values: str) -> str:
    """Return a link with some parameters changed."""
    given = {name: found[0] for name, found in parse_qs(urlsplit(url).query).items()} | values
    return f"{urlsplit(url).path}?" + "&".join(f"{name}={value}" for name, value in given.items())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_opens_its_file_until_its_time_is_over(method: str) -> None:
    row = job()
    url = links().path(row, Variant.POSTER, now=NOW)
    found = read(url, method=method)
    assert (found.id, found.variant, found.epoch) == (row.id, Variant.POSTER, 3)
    assert read(url, after=DAY) == found
    with pytest.raises(LinkExpired, match="has expired"):
        read(url, after=DAY + timedelta(hours=1))


def test_everybody_is_given_the_same_link_within_an_hour() -> None:
    row = job()
    within = {
        links().path(row, Variant.VIDEO, now=datetime(2026, 3, 1, 12, minute, 1, tzinfo=UTC))
        for minute in (0, 20, 59)
    }
    assert len(within) == 1
    later = links().path(row, Variant.VIDEO, now=datetime(2026, 3, 1, 13, 0, 1, tzinfo=UTC))
    assert later not in within


def test_a_link_lives_as_long_as_the_setting_says_and_a_share_more_at_most() -> None:
    short = links(lives=timedelta(seconds=120))
    (link,) = parse_qs(urlsplit(short.path(job(), Variant.VIDEO, now=NOW)).query)["link"]
    assert 120 <= int(link.split(".")[0]) - NOW.timestamp() <= 125


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_link_only_reads(method: str) -> None:
    assert read(links().path(job(), Variant.VIDEO, now=NOW), method=method) is None


def test_a_link_is_for_one_job_and_one_variant() -> None:
    url = links().path(job(), Variant.VIDEO, now=NOW)
    for other in (
        changed(url, variant="input"),
        changed(url, variant="gif"),
        changed(url, variant=""),
        url.replace("variant=video&", "variant=video&variant=input&"),
        f"{url}&variant=input",
        url.replace(url.split("/")[3], public_id(uuid4())),
    ):
        with pytest.raises(LinkRefused):
            read(other)
    # If no variant is named, the route serves the video, and the link is valid for it.
    assert read(url.replace("variant=video&", "")) is not None


def test_what_is_changed_in_a_link_makes_it_worthless_and_is_not_called_expired() -> None:
    url = links().path(job(), Variant.VIDEO, now=NOW)
    expires, epoch, signature = parse_qs(urlsplit(url).query)["link"][0].split(".")
    for forged in (
        f"{int(expires) + 3600}.{epoch}.{signature}",
        f"{expires}.{int(epoch) + 1}.{signature}",
        f"0{expires}.{epoch}.{signature}",
        f"{expires}.0{epoch}.{signature}",
        f"{expires}.{epoch}.{signature[:-1]}",
        f"{expires}.{epoch}.{signature}=",
        f"{expires}.{epoch}.{'A' * 43}",
        f"1.{epoch}.{signature}",
        f"{expires}.{epoch}",
        "",
        "x" * 100,
        "1" * 5000,
    ):
        with pytest.raises(LinkRefused):
            read(changed(url, link=forged))
    with pytest.raises(LinkRefused):
        read(f"{url}&link={expires}.{epoch}.{signature}")


@pytest.mark.parametrize(
    "path", ["/v1/jobs/{id}", "/v1/jobs/{id}/cancel", "/v1/jobs", "/outputs/{id}.mp4", "/v1/keys"]
)
def test_no_other_path_takes_a_link(path: str) -> None:
    row = job()
    query = urlsplit(links().path(row, Variant.VIDEO, now=NOW)).query
    assert read(f"{path.format(id=public_id(row.id))}?{query}") is None


def test_a_new_secret_signs_and_the_old_ones_links_go_on_while_it_is_named() -> None:
    row = job()
    before = links(OLD).path(row, Variant.VIDEO, now=NOW)
    rotated = links(NEW, OLD)
    assert read(before, rotated) is not None
    assert rotated.path(row, Variant.VIDEO, now=NOW) == links(NEW).path(
        row, Variant.VIDEO, now=NOW
    )
    with pytest.raises(LinkRefused):
        read(before, links(NEW))


def test_no_link_is_made_of_a_row_that_does_not_say_which_count() -> None:
    with pytest.raises(ValueError, match="link_epoch"):
        links().path(job(None), Variant.VIDEO, now=NOW)


def test_each_purpose_has_keys_of_its_own_that_stay_the_same() -> None:
    secret = InstallationSecret([NEW, OLD])
    keys = [key for purpose in Purpose for key in secret.keys(purpose)]
    assert len(set(keys)) == 2 * len(Purpose)
    assert {len(key) for key in keys} == {32}
    # A change here would end every session and every kept header of an installation.
    assert secret.keys(Purpose.LINKS)[0].hex().startswith("28c94612e73f0d8d")


@pytest.mark.parametrize(
    "text", ["short", "s" * 31, f"{'s' * 32},short", "s" * 31 + " ", "ß" * 40]
)
def test_a_secret_that_can_be_guessed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="32 visible ASCII characters"):
        Settings(_env_file=None, secret=text)


def test_a_comma_list_is_the_secret_and_those_before_it() -> None:
    settings = Settings(_env_file=None, secret=f" {NEW}, {OLD},")
    assert settings.secrets == (NEW, OLD)
    assert Settings(_env_file=None, secret="").secrets == ()
    with pytest.raises(SystemExit, match="STILLREEL_SECRET is missing"):
        InstallationSecret.of(without_secret(settings))


def without_secret(settings: Settings) -> Settings:
    return settings.model_copy(update={"secret": None})
