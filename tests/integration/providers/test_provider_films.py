"""The link to a finished film: which links are followed, and which error each bad one gives."""

from pathlib import Path

import pytest

from shared.settings import Settings
from tests.support.providers.case import FILM, Case, case, named, real, unheard
from tests.support.providers.service import ENDLESS, LOST, Reply, cut
from worker.engines.remote.errors import Away, ResultGone, ResultUnusable
from worker.engines.remote.hosted.connect import films_of
from worker.engines.remote.hosted.film import fetch_film
from worker.engines.remote.provider import Look, TaskState

__all__ = ["case", "real"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(403, b""), ResultGone),
        (Reply(404, b""), ResultGone),
        (Reply(200, b"<html>", {"Content-Type": "text/html"}), ResultUnusable),
        (Reply(302, b"", {"Location": "http://10.0.0.1/film"}), ResultUnusable),
        (Reply(503, b""), Away),
        (LOST, Away),
        (cut(Reply(200, FILM, {"Content-Type": "video/mp4"})), Away),
        (
            Reply(200, FILM, {"Content-Type": "video/mp4", "Content-Encoding": "gzip"}),
            ResultUnusable,
        ),
        (Reply(302, b"", {"Location": "http://169.254.169.254/film"}), ResultUnusable),
        (Reply(302, b"", {"Location": "file:///etc/passwd"}), ResultUnusable),
        (Reply(400, b""), ResultUnusable),
    ],
    ids=named,
)
def test_a_link_that_gives_no_film(
    case: Case, reply: Reply, error: type[Exception], tmp_path: Path
) -> None:
    task, look = case.finished()
    case.service.at_film.append(reply)
    with pytest.raises(error):
        case.provider.download(task, look, tmp_path / "film", unheard)


@pytest.mark.parametrize(
    "link",
    [
        "http://10.0.0.1/film",
        "http://[::1]:1/film",
        "file:///etc/passwd",
        "nonsense",
        "",
        "a" * 9000,
    ],
)
def test_a_link_to_where_no_clients_link_may_lead_is_not_followed(
    case: Case, link: str, tmp_path: Path
) -> None:
    with pytest.raises(ResultUnusable):
        case.provider.download("t", Look(TaskState.DONE, link=link), tmp_path / "film", unheard)


def test_a_film_without_end_or_too_large_is_cut(case: Case, tmp_path: Path) -> None:
    task, look = case.finished()
    films = films_of(Settings(_env_file=None, outbound_allow="127.0.0.0/8"), max_bytes=65_536)
    for reply in (ENDLESS, Reply(200, bytes(70_000), {"Content-Type": "video/mp4"})):
        case.service.at_film.append(reply)
        with pytest.raises(ResultUnusable, match="more than"):
            fetch_film(films, look.link or "", tmp_path / "film", unheard)
    assert (tmp_path / "film").stat().st_size <= 65_536
    assert task
