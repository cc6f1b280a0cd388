"""Relaying a stream: each piece leaves as it arrives; usage and times are read in passing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from routeiq.exceptions import Draining, RequestError, UpstreamError, UpstreamFailed
from routeiq.gateway.asgi import Send, error_body
from routeiq.gateway.attempt import Attempts, Reply
from routeiq.gateway.headers import decision_headers
from routeiq.gateway.trace import Trace
from routeiq.gateway.watch import Disconnect
from routeiq.ports import UpstreamResponse
from routeiq.providers.pricing import cost_usd
from routeiq.providers.sse import UsageTap, error_event

NO_BUFFERING = (b"x-accel-buffering", b"no")  # nginx would otherwise collect the events
NO_STORE = (b"cache-control", b"no-cache")


class StreamCut(UpstreamFailed):
    """The provider's stream ended before its answer did; the client has a part of it."""

    code = "stream_cut"

    def __init__(self) -> None:
        super().__init__("The provider's stream ended before the answer was complete.")


def drain_cut() -> Draining:
    """What the client is told when the process must end before its answer did."""
    return Draining(
        "The gateway shut down before the answer was complete; send the request again.",
        retry_after_s=1.0,
    )


async def relay(
    trace: Trace, reply: Reply, send: Send, disconnect: Disconnect, attempts: Attempts
) -> None:
    """Send `reply`'s stream to the client and account for it, however it ends."""
    tap, response, chunks = reply.tap, reply.response, reply.chunks
    if tap is None or response is None or chunks is None:
        raise TypeError("relay needs a streaming reply")
    failed: RequestError | None = None
    headers = [*reply.headers, NO_STORE, NO_BUFFERING, *decision_headers(trace)]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        last, failed = await forward(trace, reply.body, response, chunks, tap, send, disconnect)
        trace.kind = "error" if failed is not None or tap.error else "success"
        if failed is not None:
            last += error_event(error_body(failed), trace.operation)
            trace.error = trace.error or failed.code
            if isinstance(failed, StreamCut):
                trace.kind = "stream_cut"
        disconnect.ended()
        await send({"type": "http.response.body", "body": last})
    finally:
        trace.usage = tap.usage
        if tap.usage is not None:
            trace.charge(cost_usd(reply.deployment.facts, tap.usage))
        attempts.end_stream(reply, broken=isinstance(failed, StreamCut))


async def forward(
    trace: Trace,
    piece: bytes,
    response: UpstreamResponse,
    chunks: AsyncIterator[bytes],
    tap: UsageTap,
    send: Send,
    disconnect: Disconnect,
) -> tuple[bytes, RequestError | None]:
    """Pass the pieces on; what is left to send at the end, and what the stream failed with.

    A piece with which the provider's answer is complete is left too: it leaves with the end of ours.
    """
    last = b""
    try:
        while True:
            out = tap.feed(piece)
            if trace.first_token_ms is None and tap.first_content:
                trace.first_token_ms = trace.elapsed_ms()
            if response.complete:
                last = out
                break
            if out:
                await send({"type": "http.response.body", "body": out, "more_body": True})
            try:
                piece = await anext(chunks)
            except StopAsyncIteration:
                break
    except UpstreamError as error:
        trace.error = error.code
        return tap.finish(), StreamCut()
    except asyncio.CancelledError:
        if disconnect.happened:
            raise
        disconnect.absorb()
        return tap.finish(), drain_cut()
    last += tap.finish()
    return last, None if tap.finished else StreamCut()
