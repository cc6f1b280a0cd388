"""A plain HTTP call for tests: no proxy, no retry, no interpretation of status codes."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`headers` have lower-case names; where a name repeats, the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The `data:` payloads of a server-sent stream."""
        lines = self.body.decode().splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def connect(
    url: str, timeout: float = 30.0, tls: ssl.SSLContext | None = None
) -> http.client.HTTPConnection:
    """An unopened connection to the origin of `url`."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=tls)
    return http.client.HTTPConnection(parts.netloc, timeout=timeout)


def call(
    url: str,
    body: Any = None,
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request on its own connection; `body` is JSON unless it is bytes; POST where there is one."""
    sent = {"content-type": "application/json", **(headers or {})}
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection = connect(url, timeout, tls)
    try:
        target = url.split("/", 3)[3] if url.count("/") > 2 else ""
        connection.request(method or ("GET" if raw is None else "POST"), f"/{target}", raw, sent)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(status=response.status, headers=found, body=response.read())
    finally:
        connection.close()
