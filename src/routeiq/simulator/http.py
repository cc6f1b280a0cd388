"""HTTP/1.1 on one connection: httptools parses, replies are written in order, on purpose badly if asked."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

import httptools

from .app import App
from .behaviour import PLAIN, Behaviour
from .errors import ApiError
from .record import ReceivedRequest
from .replies import Reply, error_reply

_MOST_WAITING = 32
_PLAIN_CHUNKS = 4
_END = "\r\n"
_CLOSE = "connection: close\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_GZIP = 16 + zlib.MAX_WBITS
_NO_LINGER = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """One client. A reply that needs no pause is written at once, any other by a task."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._request = ReceivedRequest()
        self._body: list[bytes] = []
        self._waiting: deque[ReceivedRequest] = deque()
        self._current: ReceivedRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember it, so that it can be counted and closed."""
        self._transport = cast(asyncio.Transport, transport)
        self._app.connections.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what is being answered; whatever was not answered was not waited for."""
        self._app.connections.discard(self._transport)
        for request in self._waiting:
            request.disconnected = True
        self._waiting.clear()
        if self._current is not None:
            self._current.disconnected = True
            self._finish()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse; what is not HTTP gets 400 and the door."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # the request itself has been answered; nothing is upgraded
        except httptools.HttpParserCallbackError:
            raise  # an error of ours, not the client's
        except httptools.HttpParserError as error:
            if self._current is None and not self._transport.is_closing():
                reply = error_reply(ApiError(400, f"This is not HTTP/1.1: {error}"))
                self._transport.write(_whole(reply, self._request, keep_alive=False))
            self._transport.close()

    def on_message_begin(self) -> None:
        """A new request starts."""
        self._request = ReceivedRequest()
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        """The request target, possibly in parts."""
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, as it came."""
        self._request.raw_headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """A part of the body, already without chunked framing."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer, or queue behind the answer that is under way."""
        request = self._request
        request.body = b"".join(self._body)
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.http11 = self._parser.get_http_version() == "1.1"
        request.time = self._app.clock.wall()
        if self._current is None:
            self._start(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) == _MOST_WAITING:
                self._transport.pause_reading()

    def _start(self, request: ReceivedRequest) -> None:
        app = self._app
        reply, behaviour = app.answer(request)
        self._current = request
        app.in_flight += 1
        app.max_in_flight = max(app.max_in_flight, app.in_flight)
        paced = reply.wait_s or reply.first_s or reply.gap_s is not None
        if behaviour is PLAIN and not paced and self._writable.is_set():
            keep_alive = request.keep_alive and (request.http11 or not reply.stream)
            self._transport.write(_whole(reply, request, keep_alive=keep_alive))
            request.status = reply.status
            self._finish()
            if not keep_alive:
                self._transport.close()
        else:
            self._task = asyncio.create_task(self._play(request, reply, behaviour))

    def _finish(self) -> None:
        self._current = None
        self._app.in_flight -= 1

    async def _play(self, request: ReceivedRequest, reply: Reply, steer: Behaviour) -> None:
        if pause := steer.delay_ms / 1000 + reply.wait_s:
            await asyncio.sleep(pause)
        if steer.hang:
            await asyncio.Event().wait()
        if steer.reset:  # a socket that does not linger is closed by RST
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._transport.abort()
        if steer.reset or steer.close:
            self._done(keep_alive=False)
            return
        chunked = request.http11 and (reply.stream if steer.chunked is None else steer.chunked)
        keep_alive = request.keep_alive and steer.keepalive and (chunked or not reply.stream)
        pieces = _prepared(reply, steer, split=chunked and not reply.stream)
        length = None if chunked or reply.stream else sum(map(len, pieces))
        head = _head(reply, length, chunked=chunked, keep_alive=keep_alive, gzip=steer.gzip)
        request.status = reply.status
        self._transport.write(head)
        if steer.cut is not None:
            pieces = _cut(reply, pieces, steer.cut)
        if request.method != "HEAD":
            await self._write_body(reply, map(_frame, pieces) if chunked else pieces, steer)
            if chunked and steer.cut is None:
                self._transport.write(_LAST_CHUNK)
        self._done(keep_alive=keep_alive and steer.cut is None)

    async def _write_body(self, reply: Reply, pieces: Iterable[bytes], steer: Behaviour) -> None:
        for number, piece in enumerate(pieces):
            if number == 0 and reply.first_s:
                await asyncio.sleep(reply.first_s)
            elif reply.gap_s is not None and reply.lead < number < reply.lead + reply.paced:
                await asyncio.sleep(reply.gap_s)
            await self._write(piece, steer.drip)

    async def _write(self, data: bytes, drip_ms: float | None) -> None:
        if drip_ms is None:
            self._transport.write(data)
        else:
            for at in range(len(data)):
                self._transport.write(data[at : at + 1])
                await asyncio.sleep(drip_ms / 1000)
        await self._writable.wait()

    def _done(self, *, keep_alive: bool) -> None:
        self._task = None
        self._finish()
        if not keep_alive:
            self._transport.close()
            return
        while self._waiting and self._current is None:
            self._start(self._waiting.popleft())
        if not self._waiting:
            self._transport.resume_reading()


def _head(
    reply: Reply, length: int | None, *, chunked: bool, keep_alive: bool, gzip: bool
) -> bytes:
    framing = "" if length is None else f"content-length: {length}\r\n"
    return (
        f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}\r\n"
        f"content-type: {reply.content_type}\r\n"
        f"{'transfer-encoding: chunked' + _END if chunked else framing}{reply.headers}"
        f"{'content-encoding: gzip' + _END if gzip else ''}{'' if keep_alive else _CLOSE}\r\n"
    ).encode("latin-1", "replace")


def _whole(reply: Reply, request: ReceivedRequest, *, keep_alive: bool) -> bytes:
    """Head and body of a reply that needs no pause and no fault."""
    chunked = reply.stream and request.http11
    length = None if reply.stream else len(reply.pieces[0])
    head = _head(reply, length, chunked=chunked, keep_alive=keep_alive, gzip=False)
    if request.method == "HEAD":
        return head
    if not chunked:
        return b"".join((head, *reply.pieces))
    return b"".join((head, *map(_frame, reply.pieces), _LAST_CHUNK))


def _frame(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _prepared(reply: Reply, steer: Behaviour, *, split: bool) -> list[bytes]:
    """The pieces of the body with what steering does to their bytes."""
    pieces = list(reply.pieces)
    if steer.malformed:
        middle = len(pieces) // 2
        half = pieces[middle][: len(pieces[middle]) // 2]
        pieces[middle] = half + b"\n\n" if reply.stream else half
    if steer.oversize:
        filler = b": " + b"x" * steer.oversize + b"\n\n" if reply.stream else b" " * steer.oversize
        pieces.insert(1, filler)
    if split:
        body = b"".join(pieces)
        size = len(body) // _PLAIN_CHUNKS + 1
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
    if steer.gzip:
        packer = zlib.compressobj(wbits=_GZIP)
        pieces = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
        pieces[-1] += packer.flush()
    return pieces


def _cut(reply: Reply, pieces: list[bytes], keep: int) -> list[bytes]:
    return pieces[:keep] if reply.stream else [b"".join(pieces)[:keep]]
