"""A place that has weights: the hub, a mirror of it, or ModelScope."""

from typing import Protocol

from shared.errors import MissingWeights
from worker.download.repository import Listing, Repository, SourceKind
from worker.download.web import Refused, Web

ELSEWHERE = "STILLREEL_MODEL_DIR to a folder of weights"


class Source(Protocol):
    """A place that lists and serves files."""

    kind: SourceKind
    web: Web

    @property
    def name(self) -> str:
        """Return the name that is shown to people."""

    def listing(self, repository: Repository) -> Listing:
        """Return the files of the repository at its revision.

        Raises:
            MissingWeights: the source cannot give it; the message says what to do.
        """

    def refusal(self, repository: Repository, refused: Refused) -> MissingWeights:
        """Return the message for an answer that is an error."""

    def broken(self, repository: Repository, what: str) -> MissingWeights:
        """Return the message for a source that sends nothing, or something else."""
