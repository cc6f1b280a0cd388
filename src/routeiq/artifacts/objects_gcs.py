"""Objects of a Google Cloud Storage bucket, by its JSON API (extra `[gcs]`: google-auth for the tokens).

API: https://cloud.google.com/storage/docs/json_api/v1/objects/get (alt=media, ifGenerationMatch, Range).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from routeiq.exceptions import ConfigError, Problem

from .errors import SourceChanged, SourceError
from .objects import CHUNK, Body, Head

TIMEOUTS_S = (10.0, 30.0)
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_WHY = {
    401: "may not be read: the credentials are not accepted",
    403: "may not be read: the credentials lack the right storage.objects.get",
    404: "is not there",
}


class GcsObjects:
    """A bucket and the start of its names.

    `STORAGE_EMULATOR_HOST` gives another server, which is asked without credentials; else Google's are found in
    the usual places (Application Default Credentials).
    """

    def __init__(self, bucket: str, prefix: str, *, environ: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._errors: tuple[type[Exception], ...]
        self._session, self._errors = _session(environ)
        host = environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        self._host = (host if "://" in host else f"http://{host}").rstrip("/")

    @property
    def uri(self) -> str:
        """`gs://bucket/prefix`."""
        return f"gs://{self._bucket}/{self._prefix}".rstrip("/")

    def head(self, key: str, known: str | None = None) -> Head | None:
        """The object's description, unless its generation is still `known`."""
        condition = {} if known is None else {"ifGenerationNotMatch": known}
        with self._get(key, {"fields": "generation,size", **condition}, {}) as response:
            if response.status_code == 304:
                return None
            found = self._json(key, response)
            try:
                head = Head(mark=str(found["generation"]), size=int(found["size"]))
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f"{self.uri}: {key} has no description: {error}.") from error
        return None if head.mark == known else head

    def read(self, key: str, *, start: int = 0, mark: str | None = None) -> Body:
        """The object's bytes with ifGenerationMatch and Range; never decompressed on the way."""
        headers = {"Accept-Encoding": "gzip"}
        if start:
            headers["Range"] = f"bytes={start}-"
        condition = {} if mark is None else {"ifGenerationMatch": mark}
        response = self._get(key, {"alt": "media", **condition}, headers)
        begin = start if response.status_code == 206 else 0
        try:
            length = int(response.headers["content-length"])
            found = response.headers["x-goog-generation"]
        except (KeyError, ValueError) as error:
            response.close()
            raise SourceError(f"{self.uri}: {key} came without length or generation.") from error
        return Body(
            mark=found,
            size=begin + length,
            start=begin,
            chunks=self._chunks(key, response),
            close=response.close,
        )

    def _json(self, key: str, response: Any) -> Any:
        try:
            return response.json()
        except self._errors as error:
            raise SourceError(f"{self.uri}: {key} has no description: {error}.") from error

    def _get(self, key: str, query: dict[str, str], headers: dict[str, str]) -> Any:
        name = quote(self._prefix + key, safe="")
        url = f"{self._host}/storage/v1/b/{quote(self._bucket, safe='')}/o/{name}"
        try:
            response = self._session.get(
                url, params=query, headers=headers, timeout=TIMEOUTS_S, stream=True
            )
        except self._errors as error:
            raise SourceError(f"{self.uri}: {key} cannot be read: {error}.") from error
        status = response.status_code
        if status in (200, 206, 304):
            return response
        response.close()
        if status in (412, 416):
            raise SourceChanged(f"{self.uri}: {key} was replaced while it was read.")
        raise SourceError(f"{self.uri}: {key} {_WHY.get(status, f'was answered with {status}')}.")

    def _chunks(self, key: str, response: Any) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(CHUNK, decode_content=False)
        except self._errors as error:
            raise SourceError(f"{self.uri}: {key} cannot be read: {error}.") from error


def _session(environ: Mapping[str, str]) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        from google.auth import default
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import GoogleAuthError
        from google.auth.transport.requests import AuthorizedSession
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        message, fix = "needs google-auth and requests.", "pip install 'routeiq-router[gcs]'."
        raise ConfigError([Problem(key="gs://", message=message, fix=fix)]) from error
    try:
        if environ.get("STORAGE_EMULATOR_HOST"):
            credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        else:
            credentials, _ = default(scopes=[_SCOPE])
    except GoogleAuthError as error:
        fix = "Set GOOGLE_APPLICATION_CREDENTIALS or give the machine or pod an account."
        raise ConfigError([Problem(key="gs://", message=f"{error}", fix=fix)]) from error
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    return session, (GoogleAuthError, HTTPError, OSError)
