"""The Hugging Face hub, or a mirror of it."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final
from urllib.parse import quote

from shared.errors import MissingWeights
from shared.settings import Settings
from worker.download.repository import Listing, RemoteFile, Repository, SourceKind
from worker.download.source import ELSEWHERE
from worker.download.web import PAUSES, Refused, Unanswered, Web

WHERE_IT_GOES: Final = (
    "HF_TOKEN, or into the file hf_token of the folder that STILLREEL_SECRETS_DIR names"
)
ENDPOINT: Final = "https://huggingface.co"


class Hub:
    """The hub at the settings' address, else at HF_ENDPOINT's, else its own."""

    kind: SourceKind = "huggingface"

    def __init__(self, settings: Settings, *, pauses: Sequence[float] = PAUSES) -> None:
        self.endpoint = (settings.hf_endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip(
            "/"
        )
        token = settings.hf_token.get_secret_value() if settings.hf_token else _own_token()
        self._has_token = bool(token)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.web = Web(self.endpoint, headers, pauses=pauses)

    @property
    def is_mirror(self) -> bool:
        return self.endpoint != ENDPOINT

    @property
    def name(self) -> str:
        return f"the mirror {self.endpoint}" if self.is_mirror else "the hub"

    def listing(self, repository: Repository) -> Listing:
        try:
            commit = repository.revision
            if not repository.is_pinned:
                commit = self._commit(repository)
            return Listing(commit, tuple(self._tree(repository, commit)))
        except Refused as refused:
            raise self.refusal(repository, refused) from refused
        except Unanswered as error:
            raise self.broken(repository, "did not answer") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.broken(repository, "sent no list of its files") from error

    def _commit(self, repository: Repository) -> str:
        url = f"{self._api(repository)}/revision/{quote(repository.revision, safe='')}"
        answer, _ = self.web.get_json(url)
        return str(answer["sha"])

    def _tree(self, repository: Repository, commit: str) -> list[RemoteFile]:
        at = quote(commit, safe="")
        pages: list[Any] = []
        url: str | None = f"{self._api(repository)}/tree/{at}?recursive=true&expand=false"
        while url is not None:
            page, url = self.web.get_json(url)
            pages.extend(page)
        resolve = f"{self.endpoint}/{repository.hub_id}/resolve/{at}"
        return [_file(entry, resolve) for entry in pages if entry["type"] == "file"]

    def _api(self, repository: Repository) -> str:
        return f"{self.endpoint}/api/models/{repository.hub_id}"

    def refusal(self, repository: Repository, refused: Refused) -> MissingWeights:
        status = refused.response.status_code
        errors = import_module("huggingface_hub.errors")
        try:
            import_module("huggingface_hub.utils").hf_raise_for_status(refused.response)
        except errors.GatedRepoError:
            return self._gated(repository)
        except errors.RevisionNotFoundError:
            return self.broken(repository, f"has no revision {repository.revision} of it")
        except errors.HfHubHTTPError:
            pass
        if status in {401, 403}:
            return self._gated(repository)
        if status == 404:
            return self.broken(repository, "does not have it")
        return self.broken(repository, f"answered with HTTP {status}")

    def _gated(self, repository: Repository) -> MissingWeights:
        page = repository.page(self.kind)
        if self._has_token:
            return MissingWeights(
                f"{self.name} does not give {repository.hub_id} to this token: accept the licence"
                f" on {page} with the token's account, or put another account's token into"
                f" {WHERE_IT_GOES}"
            )
        return MissingWeights(
            f"{repository.hub_id} is given to those who accept its licence: accept it on {page},"
            f" make a token that may read at https://huggingface.co/settings/tokens, and put it"
            f" into {WHERE_IT_GOES}"
        )

    def broken(self, repository: Repository, what: str) -> MissingWeights:
        if self.is_mirror:
            return MissingWeights(
                f"the weights of {repository.hub_id} could not be downloaded:"
                f" {self.name} {what}; set STILLREEL_HF_ENDPOINT to another mirror, or to"
                f" {ENDPOINT} itself, or {ELSEWHERE}"
            )
        return MissingWeights(
            f"the weights of {repository.hub_id} could not be downloaded: {self.name} {what};"
            " check the network (and the proxy, if one is set), set STILLREEL_HF_ENDPOINT to a"
            f" mirror, or {ELSEWHERE}"
        )


def _file(entry: Any, resolve: str) -> RemoteFile:
    path, lfs = str(entry["path"]), entry.get("lfs")
    return RemoteFile(
        path=path,
        size=int(lfs["size"] if lfs else entry["size"]),
        url=f"{resolve}/{quote(path)}",
        sha256=str(lfs["oid"]).removeprefix("sha256:") if lfs else None,
        git_sha1=None if lfs else str(entry["oid"]),
    )


def _own_token() -> str | None:
    """Return the token that the hub's own programs use: HF_TOKEN, a file, or a login."""
    found: str | None = import_module("huggingface_hub").get_token()
    return found
