"""Relaying a stream: each piece leaves as it arrives; usage and times are read in passing."""

from __future__ import annotations

from routeiq.exceptions import UpstreamError, UpstreamFailed
from routeiq.gateway.asgi import Send, error_body
from routeiq.gateway.attempt import Attempts, Reply
from routeiq.gateway.headers import decision_headers
from routeiq.gateway.trace import Trace
from routeiq.gateway.watch import Disconnect
from routeiq.providers.pricing import cost_usd
from routeiq.providers.sse import error_event

NO_BUFFERING = (b"x-accel-buffering", b"no")  # nginx would otherwise collect the events
NO_STORE = (b"cache-control", b"no-cache")


class StreamCut(UpstreamFailed):
    """The provider's stream ended before its answer did; the client has a part of it."""

    code = "stream_cut"

    def __init__(self) -> None:
        super().__init__("The provider's stream ended before the answer was complete.")


async def relay(
    trace: Trace, reply: Reply, send: Send, disconnect: Disconnect, attempts: Attempts
) -> None:
    """Send `reply`'s stream to the client and account for it, however it ends."""
    tap, chunks = reply.tap, reply.chunks
    if tap is None or chunks is None:
        raise TypeError("relay needs a streaming reply")
    broken = False
    headers = [*reply.headers, NO_STORE, NO_BUFFERING, *decision_headers(trace)]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        try:
            out = tap.feed(reply.body)
            if tap.first_content:
                trace.first_token_ms = trace.elapsed_ms()
            if out:
                await send({"type": "http.response.body", "body": out, "more_body": True})
            async for chunk in chunks:
                out = tap.feed(chunk)
                if trace.first_token_ms is None and tap.first_content:
                    trace.first_token_ms = trace.elapsed_ms()
                if out:
                    await send({"type": "http.response.body", "body": out, "more_body": True})
            last = tap.finish()
            broken = not tap.finished
        except UpstreamError as error:
            last, broken = tap.finish(), True
            trace.error = error.code
        if broken:
            last += error_event(error_body(StreamCut()), trace.operation)
        trace.kind = "stream_cut" if broken else ("error" if tap.error else "success")
        disconnect.ended()
        await send({"type": "http.response.body", "body": last})
    finally:
        trace.usage = tap.usage
        if tap.usage is not None:
            trace.cost_usd = cost_usd(reply.deployment.facts, tap.usage)
        attempts.end_stream(reply, broken=broken)
