"""One call to one deployment: send, classify, and leave breaker and load books right whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from routeiq.exceptions import (
    ConnectionLost,
    EgressDenied,
    InvalidRequest,
    UpstreamError,
    UpstreamTimeout,
)
from routeiq.gateway.asgi import JSON, error_body
from routeiq.gateway.trace import Trace
from routeiq.ports import Clock, Header, HttpClient, Timeouts, UpstreamResponse
from routeiq.providers.sse import UsageTap
from routeiq.providers.upstream import Upstream
from routeiq.providers.usage import usage_from_body
from routeiq.resilience.breaker import Breakers
from routeiq.resilience.retry import COUNTED, Verdict, classify, retry_after_s
from routeiq.routing.load import LoadTracker
from routeiq.types import Attempt, Deployment, JsonObject, RoutingRequest, Usage

logger = logging.getLogger("routeiq.gateway")

EGRESS_DENIED = "egress_denied"
# What may pass from a provider's answer to the client; everything else could name hosts or accounts.
FORWARDED = frozenset({b"content-type", b"content-encoding", b"openai-processing-ms"})
ERROR_BODY_LIMIT = 1024 * 1024
UNEXPLAINED = error_body(
    InvalidRequest("The provider refused the request without saying why in JSON.")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSettings:
    """Bounds of the calls to one deployment."""

    plain: Timeouts
    stream: Timeouts
    max_retries: int
    max_response_bytes: int


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer that can go to the client: a whole body, or a stream whose first piece has arrived."""

    deployment: Deployment
    status: int
    headers: list[Header]
    body: bytes
    usage: Usage | None = None
    response: UpstreamResponse | None = None
    chunks: AsyncIterator[bytes] | None = None
    tap: UsageTap | None = None
    started: float = 0.0


@dataclass(slots=True, kw_only=True)
class Failure:
    """An attempt that gave no usable answer. `body` is the provider's own, for 4xx that pass through."""

    deployment: Deployment
    verdict: Verdict
    code: str
    status: int | None = None
    headers: Sequence[Header] = ()
    body: bytes = b""
    retry_after_s: float | None = None


class Attempts:
    """Makes attempts. Holds what is the same for all of them."""

    def __init__(
        self,
        *,
        client: HttpClient,
        upstreams: Mapping[str, Upstream],
        settings: Mapping[str, CallSettings],
        breakers: Breakers,
        load: LoadTracker,
        clock: Clock,
    ) -> None:
        self._client = client
        self._upstreams = upstreams
        self._settings = settings
        self._breakers = breakers
        self._load = load
        self._clock = clock

    async def make(
        self, trace: Trace, deployment: Deployment, request: RoutingRequest, body: JsonObject
    ) -> Reply | Failure:
        """Call `deployment`; note the attempt; tell breaker and load.

        A cancelled attempt (the client left, a hedge lost) gives the breaker no verdict.
        """
        key = deployment.id
        trace.tried.add(key)
        if not self._breakers.acquire(key):
            return Failure(deployment=deployment, verdict=Verdict.RETRY, code="breaker_open")
        started = self._clock.monotonic()
        self._load.started(key)
        settled = False
        try:
            result = await self._exchange(trace, deployment, request, body)
            settled = True
        finally:
            if not settled:
                self._breakers.release(key)
                self._load.finished(key)
        seconds = self._clock.monotonic() - started
        self._settle(trace, result, request, seconds)
        if isinstance(result, Reply):
            result.started = started
        return result

    def _settle(
        self, trace: Trace, result: Reply | Failure, request: RoutingRequest, seconds: float
    ) -> None:
        key = result.deployment.id
        if isinstance(result, Failure):
            if result.verdict in COUNTED:
                self._breakers.failure(key)
            else:
                self._breakers.success(key)
            self._load.finished(key)
        else:
            self._breakers.success(key)
            if result.response is None:
                self._load.finished(key, seconds)
            else:
                self._load.first_token(key, seconds)
        trace.attempts.append(
            Attempt(
                deployment_id=key,
                status=result.status,
                duration_ms=seconds * 1e3,
                error=result.code if isinstance(result, Failure) else None,
            )
        )

    def end_stream(self, reply: Reply, *, broken: bool) -> None:
        """The stream of `reply` is over. A cut that was the provider's counts as its failure."""
        if reply.response is not None:
            reply.response.close()
        self._load.finished(reply.deployment.id, self._clock.monotonic() - reply.started)
        if broken:
            self._breakers.failure(reply.deployment.id)

    async def _exchange(
        self, trace: Trace, deployment: Deployment, request: RoutingRequest, body: JsonObject
    ) -> Reply | Failure:
        upstream = self._upstreams[deployment.id]
        settings = self._settings[deployment.id]
        timeouts = settings.stream if request.stream else settings.plain
        try:
            call = upstream.prepare(
                request.operation,
                body,
                deployment.model,
                stream=request.stream,
                client_asked_usage=request.stream and asked_usage(body),
                client_headers=trace.client_headers,
            )
            response = await self._client.send("POST", call.url, call.headers, call.body, timeouts)
            try:
                head = read_head(response.headers)
                if response.status >= 400:
                    return await self._refused(deployment, response, head)
                if request.stream and head.media.startswith(b"text/event-stream"):
                    tap = UsageTap(request.operation, call.strip_usage)
                    return await self._streaming(deployment, response, head, tap, timeouts)
                return await self._whole(deployment, request, response, head, settings)
            except BaseException:
                response.close()
                raise
        except UpstreamError as error:
            verdict = classify(None, error, b"")
            return Failure(deployment=deployment, verdict=verdict, code=error.code)
        except EgressDenied as error:
            logger.warning(str(error), extra={"deployment": deployment.id})
            return Failure(deployment=deployment, verdict=Verdict.AUTH_ERROR, code=EGRESS_DENIED)

    async def _refused(
        self, deployment: Deployment, response: UpstreamResponse, head: Head
    ) -> Failure:
        body = await response.read(ERROR_BODY_LIMIT)
        own = b"json" in head.media  # else a page of some proxy, which may name hosts
        return Failure(
            deployment=deployment,
            verdict=classify(response.status, None, body),
            code=f"status_{response.status}",
            status=response.status,
            headers=head.forwarded if own else [JSON],
            body=body if own else UNEXPLAINED,
            retry_after_s=retry_after_s(response.headers, self._clock.wall()),
        )

    async def _streaming(
        self,
        deployment: Deployment,
        response: UpstreamResponse,
        head: Head,
        tap: UsageTap,
        timeouts: Timeouts,
    ) -> Reply:
        # The head is held until the first bytes: until then nothing was promised to the client and
        # another deployment can still answer. Headers without data would help no client.
        chunks = aiter(response.chunks())
        try:
            first = await within(first_event_s(timeouts), chunks)
        except StopAsyncIteration:
            raise ConnectionLost("the provider ended the stream before its first event") from None
        return Reply(
            deployment=deployment,
            status=response.status,
            headers=head.forwarded,
            body=first,
            response=response,
            chunks=chunks,
            tap=tap,
        )

    async def _whole(
        self,
        deployment: Deployment,
        request: RoutingRequest,
        response: UpstreamResponse,
        head: Head,
        settings: CallSettings,
    ) -> Reply | Failure:
        body = await response.read(settings.max_response_bytes)
        if not is_json(head, body):
            return Failure(
                deployment=deployment,
                verdict=Verdict.RETRY,
                code="malformed_answer",
                status=response.status,
            )
        return Reply(
            deployment=deployment,
            status=response.status,
            headers=head.forwarded,
            body=body,
            usage=usage_from_body(body, request.operation),
        )


def first_event_s(timeouts: Timeouts) -> float | None:
    """Longest wait from a stream's head to its first bytes, where that is less than the idle limit.

    Many providers send the head at once and the first event when the model has started.
    """
    first, idle = timeouts.first_byte_s, timeouts.idle_s
    return None if first is None or (idle is not None and idle <= first) else first


async def within(limit_s: float | None, chunks: AsyncIterator[bytes]) -> bytes:
    """The first piece of a stream.

    Raises:
        StopAsyncIteration: there is none.
        UpstreamTimeout: it did not come in time.
    """
    if limit_s is None:
        return await anext(chunks)
    try:
        async with asyncio.timeout(limit_s):
            return await anext(chunks)
    except TimeoutError:
        raise UpstreamTimeout(
            f"no event within {limit_s:g} s of the stream's head", phase="first_byte"
        ) from None


class Head(NamedTuple):
    """What matters of a response's head, read in one pass."""

    forwarded: list[Header]
    media: bytes
    encoded: bool


def read_head(headers: Sequence[Header]) -> Head:
    """The headers that may pass, the media type in lower case, and whether the body is compressed."""
    passing, media, encoded = [], b"", False
    for pair in headers:
        name = pair[0]
        if name in FORWARDED:
            passing.append(pair)
            if name == b"content-type":
                media = pair[1].lower()
            elif name == b"content-encoding":
                encoded = True
    return Head(passing, media, encoded)


def is_json(head: Head, body: bytes) -> bool:
    """Whether a 200 answer is a whole JSON object, judged by its type and ends.

    A compressed one is taken on trust. Some providers send many blank lines ahead of it, to keep the
    connection alive; stripping copies nothing where there are none.
    """
    if b"json" not in head.media:
        return False
    return head.encoded or (body.lstrip()[:1] == b"{" and body.rstrip()[-1:] == b"}")


def asked_usage(body: JsonObject) -> bool:
    """Whether the client itself asked for the usage of its stream."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
