from __future__ import annotations

import gzip
import zlib

import pytest

from routeiq.exceptions import InvalidRequest, RequestTooLarge
from routeiq.gateway.asgi import Message
from routeiq.gateway.body import ClientDisconnected, decompress, parse_json, read_body

LIMIT = 100_000


def receiver(*messages: Message):  # type: ignore[no-untyped-def]
    queue = list(messages)

    async def receive() -> Message:
        return queue.pop(0)

    return receive


@pytest.mark.anyio
async def test_body_in_one_message() -> None:
    assert await read_body(receiver({"type": "http.request", "body": b"abc"})) == b"abc"


@pytest.mark.anyio
async def test_body_in_pieces() -> None:
    receive = receiver(
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"c"},
    )
    assert await read_body(receive) == b"abc"


@pytest.mark.anyio
@pytest.mark.parametrize("first", [[], [{"type": "http.request", "body": b"a", "more_body": True}]])
async def test_client_that_leaves_while_sending(first: list[Message]) -> None:
    with pytest.raises(ClientDisconnected):
        await read_body(receiver(*first, {"type": "http.disconnect"}))


@pytest.mark.anyio
@pytest.mark.parametrize("size", [10, 90_000])
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity", "GZIP"])
async def test_compressed_bodies_are_read(encoding: str, size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    plain = plain[:size]
    packed = {"deflate": zlib.compress(plain), "identity": plain}.get(
        encoding, gzip.compress(plain)
    )
    scope = {"headers": [(b"content-encoding", encoding.encode())]}
    assert await decompress(scope, packed, LIMIT) == plain


@pytest.mark.anyio
async def test_decompression_bomb_is_refused() -> None:
    bomb = gzip.compress(b"\0" * (LIMIT * 50))
    with pytest.raises(RequestTooLarge):
        await decompress({"headers": [(b"content-encoding", b"gzip")]}, bomb, LIMIT)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", b"not gzip"),
        (b"gzip", gzip.compress(b"x" * 999, mtime=0)[:-9]),
        (b"br", b"x"),
        (b"\xff", b"x"),
    ],
)
async def test_bad_compression_names_the_encoding(encoding: bytes, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"(?i)encoding|not valid"):
        await decompress({"headers": [(b"content-encoding", encoding)]}, body, LIMIT)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "could not parse"),
        (b"[1]", "JSON object, not list"),
        (b'"x"', "JSON object, not str"),
        (b'{"a": "\xff"}', "could not parse"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "could not parse"),
        (b'{"a": NaN}', "could not parse"),
    ],
)
def test_bad_json_says_what_is_wrong(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        parse_json(body)


def test_good_json_is_an_object() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}
