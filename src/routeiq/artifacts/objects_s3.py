"""Objects of an S3 bucket, by boto3 (extra `[s3]`): conditional, ranged reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from routeiq.exceptions import ConfigError, Problem

from .errors import SourceChanged, SourceError
from .objects import CHUNK, Body, Head

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
_WHY = {
    401: "may not be read: the credentials are not accepted",
    403: "may not be read: the credentials lack the right s3:GetObject, or it is not there",
    404: "is not there",
}


class S3Objects:
    """A bucket and the start of its keys.

    Credentials and region come from where boto3 finds them (environment, profile, role of the machine or pod).
    """

    def __init__(self, bucket: str, prefix: str, *, environ: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._errors: tuple[type[Exception], ...]
        self._client, self._errors = _client(environ)

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def head(self, key: str, known: str | None = None) -> Head | None:
        """HEAD with If-None-Match."""
        condition = {} if known is None else {"IfNoneMatch": known}
        try:
            found = self._client.head_object(
                Bucket=self._bucket, Key=self._prefix + key, **condition
            )
        except self._errors as error:
            if _status(error) == 304:
                return None
            raise self._failed(key, error) from error
        head = Head(
            mark=self._told(key, found, "ETag"), size=int(self._told(key, found, "ContentLength"))
        )
        return None if head.mark == known else head

    def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
        """GET with Range and If-Match."""
        options: dict[str, str] = {} if mark is None else {"IfMatch": mark}
        if start:
            options["Range"] = f"bytes={start}-"
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **options)
        except self._errors as error:
            raise self._failed(key, error) from error
        ranged = found["ResponseMetadata"]["HTTPStatusCode"] == 206
        begin = start if ranged else 0
        return Body(
            mark=self._told(key, found, "ETag"),
            size=begin + int(self._told(key, found, "ContentLength")),
            start=begin,
            chunks=self._chunks(key, found["Body"]),
            close=found["Body"].close,
        )

    def _chunks(self, key: str, stream: Any) -> Iterator[bytes]:
        try:
            yield from stream.iter_chunks(CHUNK)
        except self._errors as error:
            raise self._failed(key, error) from error

    def _told(self, key: str, found: Mapping[str, Any], name: str) -> str:
        if name not in found:
            raise SourceError(f"{self.uri}: {key} came without its {name}.")
        return str(found[name])

    def _failed(self, key: str, error: Exception) -> SourceError:
        status = _status(error)
        name = f"{self.uri}: {key}"
        if status in (412, 416):
            return SourceChanged(f"{name} was replaced while it was read.")
        return SourceError(f"{name} {_WHY.get(status, f'cannot be read: {error}')}.")


def _status(error: Exception) -> int:
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _client(environ: Mapping[str, str]) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        message, fix = "needs the boto3 package.", "pip install 'routeiq-router[s3]'."
        raise ConfigError([Problem(key="s3://", message=message, fix=fix)]) from error
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": 2},
        # Other makers' servers seldom have a host name per bucket.
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    try:
        client = boto3.client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError([Problem(key="AWS_ENDPOINT_URL", message=f"{error}.")]) from error
    return client, (BotoCoreError, ClientError, OSError)
