"""The store of images and clips: S3 through boto3, always SigV4 and path style."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.loaders import create_loader

from shared.errors import Gone, RangeNotSatisfiable, StorageFull, StorageUnavailable
from shared.settings import Settings

CHUNK_BYTES: Final = 256 * 1024
DELETE_BATCH: Final = 1000  # The most keys of one DeleteObjects call.

_LOADER: Final = create_loader()
"""Keeps boto3's description of S3, which takes 60 ms to read: once a process, not a client."""

_UNSAID_REGIONS: Final = frozenset({"us-east-1", "auto"})
_FORBIDDEN: Final = frozenset({"AccessDenied", "Forbidden", "403"})
_OTHER_REGION: Final = frozenset(
    {"IllegalLocationConstraintException", "InvalidLocationConstraint", "InvalidRegion"}
)

_FULL: Final = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"})
"""The codes of MinIO and Ceph; SeaweedFS without a writable volume says InternalError."""

_ABSENT: Final = frozenset({"NoSuchKey", "404"})

_NO_BUCKET: Final = "NoSuchBucket"
_SETTINGS: Final = {
    _NO_BUCKET: "STILLREEL_S3_BUCKET names no bucket of the store",
    "InvalidAccessKeyId": "STILLREEL_S3_ACCESS_KEY is not known there",
    "SignatureDoesNotMatch": "STILLREEL_S3_SECRET_KEY is not that key's",
    "AccessDenied": "STILLREEL_S3_ACCESS_KEY may not do this there",
    "AuthorizationHeaderMalformed": "STILLREEL_S3_REGION is not the bucket's",
    "RequestTimeTooSkewed": "this machine's clock and the store's differ too much: set them",
    "PermanentRedirect": "STILLREEL_S3_REGION or STILLREEL_S3_ENDPOINT is not the bucket's",
}
"""What no second try mends: the setting or the clock, for whoever runs the service."""


@dataclass(frozen=True)
class Content:
    """An object's bytes as they arrive; `range` is the Content-Range of a partial answer."""

    chunks: Iterator[bytes]
    bytes: int
    range: str | None


class Storage:
    """Objects by key; keys contain the job and the attempt, so nothing is ever overwritten."""

    def __init__(
        self,
        settings: Settings,
        *,
        connect: timedelta = timedelta(seconds=2),
        read: timedelta = timedelta(seconds=10),
        tries: int = 1,
    ) -> None:
        self._bucket = settings.s3_bucket
        self._region = settings.s3_region
        self._client = _client(settings, settings.s3_endpoint, connect, read, tries)
        public = settings.s3_public_endpoint
        self._public = _client(settings, public, connect, read, tries) if public else None

    def create_bucket(self) -> None:
        """Make the bucket if it is missing.

        Raises:
            StorageUnavailable: as `put`, or the store does not let this key make a bucket.
        """
        with _translated():
            if self._may_see_bucket():
                return
            try:
                self._client.create_bucket(Bucket=self._bucket, **self._location())
            except ClientError as error:
                code = _code(error)
                if code in _OTHER_REGION:
                    raise StorageUnavailable(
                        f"the store makes no bucket in the region {self._region!r}; set"
                        " STILLREEL_S3_REGION to the one of STILLREEL_S3_ENDPOINT"
                    ) from error
                if code in _FORBIDDEN:
                    raise StorageUnavailable(
                        f"the store does not let this key make the bucket {self._bucket!r}; make"
                        " it there yourself, or give the key the right to"
                    ) from error
                if code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

    def _may_see_bucket(self) -> bool:
        try:
            return self._has_bucket()
        except ClientError as error:
            # A key that may only use the bucket may not be told that it is there.
            if _status(error) == HTTPStatus.FORBIDDEN:
                return False
            raise

    def _has_bucket(self) -> bool:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if _status(error) == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def _location(self) -> dict[str, Any]:
        """Return the region for the bucket; us-east-1 is written as no region."""
        if self._region in _UNSAID_REGIONS:
            return {}
        return {"CreateBucketConfiguration": {"LocationConstraint": self._region}}

    def put(self, key: str, body: bytes | Path, *, content_type: str) -> None:
        """Store the bytes, or the file at a path, completely or not at all.

        Raises:
            StorageUnavailable: the store is away, slow or refuses; StorageFull if it says that it
                is full.
        """
        with _translated():
            if isinstance(body, bytes):
                self._put(key, body, content_type)
                return
            with body.open("rb") as file:
                self._put(key, file, content_type)

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            Gone: there is no such object.
            StorageUnavailable: as `put`.
        """
        with _translated():
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            return bytes(answer["Body"].read())

    def open(self, key: str, *, byte_range: str | None = None) -> Content:
        """Start reading an object, or the part of it an HTTP Range header names.

        Raises:
            RangeNotSatisfiable: the range begins after the end.
            Gone, StorageUnavailable: as `get`.
        """
        wanted = {} if byte_range is None else {"Range": byte_range}
        with _translated():
            answer = self._client.get_object(Bucket=self._bucket, Key=key, **wanted)
        return Content(
            chunks=_chunks(answer["Body"]),
            bytes=answer["ContentLength"],
            range=answer.get("ContentRange"),
        )

    def size(self, key: str) -> int:
        """Return an object's length in bytes.

        Raises:
            Gone, StorageUnavailable: as `get`.
        """
        with _translated():
            return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])

    def copy(self, key: str, to: str) -> None:
        """Copy an object's bytes to another key inside the store.

        Raises:
            Gone, StorageUnavailable: as `get`.
        """
        source = {"Bucket": self._bucket, "Key": key}
        with _translated():
            self._client.copy_object(Bucket=self._bucket, Key=to, CopySource=source)

    def keys(self, prefix: str, *, after: str, limit: int) -> list[str]:
        """Return up to `limit` keys below the prefix that follow `after`, in order."""
        with _translated():
            page = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit
            )
        return [item["Key"] for item in page.get("Contents", ())]

    def delete(self, key: str) -> None:
        with _translated():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def delete_prefix(self, prefix: str, *, keep: frozenset[str] = frozenset()) -> int:
        """Delete every object below the prefix except those to keep; return how many were deleted.

        Raises:
            StorageUnavailable: the store refused some, which it says inside an answer of 200; the
                others were deleted.
        """
        refused: list[str] = []
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
            doomed = [key for key in keys if key not in keep]
            for start in range(0, len(doomed), DELETE_BATCH):
                batch = [{"Key": key} for key in doomed[start : start + DELETE_BATCH]]
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True}
                )
                refused += _refusals(answer)
        if refused:
            raise StorageUnavailable(
                f"the storage refused to delete {len(refused)} of {len(doomed)} objects,"
                f" with {', '.join(sorted(set(refused)))}"
            )
        return len(doomed)

    def presign(
        self, key: str, *, content_type: str, file_name: str, expires: timedelta
    ) -> str | None:
        """Return a link that a browser can open, or None if the store is not public."""
        if self._public is None:
            return None
        return str(
            self._public.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": key,
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": f'inline; filename="{file_name}"',
                },
                ExpiresIn=int(expires.total_seconds()),
            )
        )

    def presign_post(
        self, key: str, *, max_bytes: int, expires: timedelta
    ) -> tuple[str, dict[str, str]] | None:
        """Return where a browser may POST a file, and the other form fields, or None as above."""
        if self._public is None:
            return None
        form = self._public.generate_presigned_post(
            self._bucket,
            key,
            Conditions=[["content-length-range", 1, max_bytes]],
            ExpiresIn=int(expires.total_seconds()),
        )
        return str(form["url"]), dict(form["fields"])

    def check(self) -> None:
        """Raise StorageUnavailable unless the bucket is there and answers."""
        with _translated():
            if not self._has_bucket():
                raise StorageUnavailable(_refusal(_NO_BUCKET))

    def close(self) -> None:
        self._client.close()
        if self._public is not None:
            self._public.close()

    def _put(self, key: str, body: Any, content_type: str) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)


def _client(
    settings: Settings, endpoint: str, connect: timedelta, read: timedelta, tries: int
) -> Any:
    core = botocore.session.get_session()
    core.register_component("data_loader", _LOADER)
    client: BaseClient = boto3.session.Session(botocore_session=core).client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key.get_secret_value() or None,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value() or None,
        config=Config(
            signature_version="s3v4",  # boto3 would presign with SigV2, which stores refuse.
            s3={"addressing_style": "path"},
            connect_timeout=connect.total_seconds(),
            read_timeout=read.total_seconds(),
            retries={"mode": "standard", "total_max_attempts": tries},
            max_pool_connections=20,
            # None would use the proxies of the environment, which are for the internet.
            proxies={},
        ),
    )
    return client


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the library's errors into ours; their texts may hold addresses and keys."""
    try:
        yield
    except ClientError as error:
        code, status = _code(error), _status(error)
        if code in _ABSENT:
            raise Gone("the file is no longer stored") from error
        if code in _FULL or status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise StorageFull("the storage has no room left; delete jobs, or wait") from error
        if code in {"InvalidRange", "416"}:
            raise RangeNotSatisfiable("the range begins after the end of the file") from error
        raise StorageUnavailable(_refusal(code)) from error
    except NoCredentialsError as error:
        raise StorageUnavailable(
            "the storage was not asked: STILLREEL_S3_ACCESS_KEY and STILLREEL_S3_SECRET_KEY are"
            " not set"
        ) from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable("the storage did not answer; try again") from error


def _refusal(code: str) -> str:
    return f"the storage refused with {code}; {_SETTINGS.get(code, 'try again')}"


def _status(error: ClientError) -> int:
    response: Mapping[str, Any] = error.response
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: ClientError) -> str:
    response: Mapping[str, Any] = error.response
    return str(response.get("Error", {}).get("Code", "unknown"))


def _refusals(answer: Mapping[str, Any]) -> list[str]:
    """Return the codes of objects that DeleteObjects refused; a missing object is no refusal."""
    codes = [str(error.get("Code", "unknown")) for error in answer.get("Errors", ())]
    return [code for code in codes if code not in _ABSENT]


def _chunks(body: Any) -> Iterator[bytes]:
    """Yield the body in pieces, and close it however the reader stops."""
    try:
        with _translated():
            yield from body.iter_chunks(CHUNK_BYTES)
    finally:
        body.close()
