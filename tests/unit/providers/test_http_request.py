from __future__ import annotations

import re
import ssl

import pytest

from routeiq.ports import Timeouts
from routeiq.providers.http_client import NativeHttpClient

pytestmark = pytest.mark.anyio
PATIENT = Timeouts()
NO_HEADERS: tuple[tuple[bytes, bytes], ...] = ()


@pytest.fixture
def client() -> NativeHttpClient:
    return NativeHttpClient(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.mark.parametrize(
    "name", [b"X\r\nY", b"X Y", b"", b"X:", b"Host", b"content-LENGTH", b"Connection"]
)
async def test_bad_header_names_are_refused(client: NativeHttpClient, name: bytes) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        await client.send("POST", "http://127.0.0.1:1/", [(name, b"v")], b"", PATIENT)


@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\n", b"a\r", b"a\0b"])
async def test_bad_header_values_are_refused_without_repeating_them(
    client: NativeHttpClient, value: bytes
) -> None:
    with pytest.raises(ValueError, match=r"b'x-key'.*line break or a NUL") as caught:
        await client.send("POST", "http://127.0.0.1:1/", [(b"x-key", value)], b"", PATIENT)
    assert repr(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET /x HTTP/1.1\r\nX:", "http://127.0.0.1:1/"),
        ("POST", "http://127.0.0.1:1/a\r\nX: y"),
        ("POST", "http://127.0.0.1:1/a b"),
        ("POST", "http://u:p@127.0.0.1:1/"),
        ("POST", "ftp://127.0.0.1:1/"),
    ],
)
async def test_bad_methods_and_urls_are_refused(
    client: NativeHttpClient, method: str, url: str
) -> None:
    with pytest.raises(ValueError, match=r"URL|method"):
        await client.send(method, url, NO_HEADERS, b"", PATIENT)
