"""A place that has weights: the hub, a mirror of it, or ModelScope."""

from typing import Protocol

from shared.errors import MissingWeights
from worker.download.repository import Listing, Repository, SourceKind
from worker.download.web import Refused, Web

ELSEWHERE = "STILLREEL_MODEL_DIR to a folder of weights"


class Source(Protocol):
    """Where files are listed and fetched."""

    kind: SourceKind
    web: Web

    @property
    def name(self) -> str:
        """Return what a reader is told it is."""

    def listing(self, repository: Repository) -> Listing:
        """Return what the repository holds at its revision.

        Raises:
            MissingWeights: it cannot be had; the sentence says what to do.
        """

    def refusal(self, repository: Repository, refused: Refused) -> MissingWeights:
        """Return the sentence for an answer that is an error."""

    def broken(self, repository: Repository, what: str) -> MissingWeights:
        """Return the sentence for a source that gives nothing, or something else."""
