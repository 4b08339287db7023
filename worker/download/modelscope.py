"""ModelScope, whose API has two paths: a list of files, and a file."""

import os
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from shared.errors import MissingWeights
from worker.download.repository import Listing, RemoteFile, Repository, SourceKind
from worker.download.source import ELSEWHERE
from worker.download.web import PAUSES, Refused, Unanswered, Web

ENDPOINT: Final = "https://modelscope.cn"
MOST_LISTED: Final = 3000
"""A longer list is cut at this length without any sign in it."""


class ModelScope:
    kind: SourceKind = "modelscope"

    def __init__(self, *, pauses: Sequence[float] = PAUSES) -> None:
        self.endpoint = (os.environ.get("MODELSCOPE_ENDPOINT") or ENDPOINT).rstrip("/")
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.web = Web(self.endpoint, headers, pauses=pauses)

    @property
    def name(self) -> str:
        return "ModelScope" if self.endpoint == ENDPOINT else f"ModelScope at {self.endpoint}"

    def listing(self, repository: Repository) -> Listing:
        if repository.modelscope_id is None:
            raise MissingWeights(
                f"no repository of {repository.hub_id} on ModelScope is known: set"
                f" STILLREEL_MODEL_SOURCE to huggingface, or {ELSEWHERE}"
            )
        url = f"{self.endpoint}/api/v1/models/{repository.modelscope_id}/repo"
        try:
            answer, _ = self.web.get_json(
                f"{url}/files", {"Revision": "master", "Recursive": "True"}
            )
            listed = answer["Data"]["Files"]
            if len(listed) >= MOST_LISTED:
                raise self.broken(repository, "lists only a part of its files")
            files = [entry for entry in listed if entry.get("Type", "blob") != "tree"]
            return Listing(None, tuple(_file(entry, url) for entry in files))
        except Refused as refused:
            raise self.refusal(repository, refused) from refused
        except Unanswered as error:
            raise self.broken(repository, "did not answer") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.broken(repository, "sent no list of its files") from error

    def refusal(self, repository: Repository, refused: Refused) -> MissingWeights:
        status = refused.response.status_code
        if status in {401, 403}:
            return MissingWeights(
                f"{self.name} does not open {repository.modelscope_id} to everybody: accept its"
                f" terms on {repository.page(self.kind)}, and put your access token into"
                " MODELSCOPE_API_TOKEN"
            )
        return self.broken(repository, f"answered with HTTP {status}")

    def broken(self, repository: Repository, what: str) -> MissingWeights:
        return MissingWeights(
            f"the weights of {repository.modelscope_id} could not be downloaded: {self.name}"
            f" {what}; check the network (and the proxy, if one is set), set"
            f" STILLREEL_MODEL_SOURCE to huggingface, or {ELSEWHERE}"
        )


def _file(entry: dict[str, object], url: str) -> RemoteFile:
    path = str(entry["Path"])
    return RemoteFile(
        path=path,
        size=int(str(entry["Size"])),
        url=f"{url}?{urlencode({'Revision': 'master', 'FilePath': path})}",
        sha256=str(entry["Sha256"]).lower(),
    )
