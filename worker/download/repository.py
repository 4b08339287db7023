"""The origin of a checkpoint's files, and one such file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

SourceKind = Literal["huggingface", "modelscope"]

PAGES: Final[Mapping[SourceKind, str]] = {
    "huggingface": "https://huggingface.co",
    "modelscope": "https://modelscope.cn/models",
}


@dataclass(frozen=True)
class Repository:
    """One repository of a checkpoint.

    A `revision` that is not a commit is a branch: the first download fixes its commit, and the
    manifest keeps it. `into` is the folder of the part, if the repository has none itself.
    """

    hub_id: str
    revision: str
    modelscope_id: str | None = None
    into: str | None = None

    @property
    def is_pinned(self) -> bool:
        return len(self.revision) == 40 and set(self.revision) <= set("0123456789abcdef")

    def page(self, source: SourceKind) -> str:
        """Return the page where a person can read and accept the licence."""
        return f"{PAGES[source]}/{self.id_on(source)}"

    def id_on(self, source: SourceKind) -> str | None:
        return self.hub_id if source == "huggingface" else self.modelscope_id


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it: exactly one of the two hashes is known.

    `git_sha1` is git's own: of `blob`, the size, a NUL, and the bytes.
    """

    path: str
    size: int
    url: str
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def key(self) -> str:
        """Return the key that identifies the content."""
        return self.sha256 or self.git_sha1 or ""


@dataclass(frozen=True)
class Listing:
    """The files of a repository at one commit; `commit` is None if the source names none."""

    commit: str | None
    files: tuple[RemoteFile, ...]
