"""The drawn tree of errors has each class with a status of its own."""

import re
from collections.abc import Iterator
from typing import Final

import api.app  # noqa: F401  # With it every module that the gateway's errors are in.
import shared.errors as drawn
import worker.engines.remote.errors  # noqa: F401
from shared.errors import AppError

LINE: Final = re.compile(r"[│ ]*[├└]── ([A-Z][\w, ]*?)(?:  +(\d{3}))?(?:  +.*)?")
CODE: Final = re.compile(r"[a-z]+(_[a-z0-9]+)*")


def kinds(of: type[AppError] = AppError) -> Iterator[type[AppError]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


OURS: Final = {kind.__name__: kind for kind in kinds() if not kind.__module__.startswith("tests")}


def branches() -> dict[str, int | None]:
    """Return the statuses in the tree, by the names of classes."""
    found: dict[str, int | None] = {}
    for line in (drawn.__doc__ or "").splitlines():
        if match := LINE.fullmatch(line):
            status = None if match[2] is None else int(match[2])
            found |= dict.fromkeys(re.split(r",\s*", match[1]), status)
    return found


def test_every_class_of_the_tree_is_there_with_its_status() -> None:
    shown = branches()
    assert len(shown) > 30
    assert set(shown) - set(OURS) == set()
    assert {
        (name, status)
        for name, status in shown.items()
        if status is not None and status != OURS[name].status
    } == set()


def test_every_class_that_brings_a_status_of_its_own_is_in_the_tree() -> None:
    own = {
        name
        for name, kind in OURS.items()
        if kind.__module__.startswith("shared.")
        and (AppError in kind.__bases__ or "status" in vars(kind))
    }
    assert own - set(branches()) == set()


def test_no_two_classes_have_one_code_and_each_is_for_programs() -> None:
    own = [kind.code for kind in OURS.values() if "code" in vars(kind)]
    assert sorted(own) == sorted(set(own))
    assert [code for code in own if not CODE.fullmatch(code)] == []
