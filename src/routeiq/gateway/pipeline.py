"""A request's life on the native lane: authenticate, parse, route, call, answer, account.

Headers, log line and record are rendered from the decision and the outcome, after the fact.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from routeiq.access.authentication import Authenticator
from routeiq.exceptions import RequestError
from routeiq.gateway.asgi import Receive, Scope, Send, respond, respond_error
from routeiq.gateway.attempt import Attempts, Failure, Reply
from routeiq.gateway.body import ClientDisconnected, decompress, parse_json, read_body
from routeiq.gateway.caller import Caller
from routeiq.gateway.gate import Gate
from routeiq.gateway.headers import decision_headers
from routeiq.gateway.stream import drain_cut, relay
from routeiq.gateway.trace import Trace
from routeiq.gateway.watch import Disconnect
from routeiq.ports import Clock
from routeiq.providers.pricing import cost_usd
from routeiq.providers.upstream import FORWARDED_HEADERS
from routeiq.routing.affinity import response_id
from routeiq.routing.request import parse_request
from routeiq.types import Decision, JsonObject, Operation, RoutingRequest

# What clients may have kept in memory and logs by naming it.
SESSION_LENGTH = 256
TAG_LENGTH = 64
MOST_TAGS = 32
NO_TAGS: frozenset[str] = frozenset()
TRACEPARENT_LENGTH = 55  # version, trace id, parent id and flags (W3C Trace Context)

Observer = Callable[[Trace], None]
logger = logging.getLogger("routeiq.gateway")


class Pipeline:
    """Answers the data plane's POST routes."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        gate: Gate,
        caller: Caller,
        attempts: Attempts,
        observe: Observer,
        clock: Clock,
        max_body_bytes: int,
    ) -> None:
        self._authenticator = authenticator
        self._gate = gate
        self._caller = caller
        self._attempts = attempts
        self._observe = observe
        self._clock = clock
        self._max_body_bytes = max_body_bytes

    async def handle(
        self, operation: Operation, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request. A cancellation is the client's leaving, or a drain that ran out of time."""
        trace = Trace(request_id=scope["request_id"], operation=operation, clock=self._clock)
        disconnect = Disconnect(scope)
        try:
            body = await self._admit(trace, scope, receive, disconnect)
            disconnect.watch()
            await self._answer(trace, body, send, disconnect)
        except ClientDisconnected:
            trace.client_left()
        except asyncio.CancelledError:
            disconnect.absorb()
            if disconnect.happened:
                trace.client_left()
            else:
                await self._cut(trace, send)
        except RequestError as error:
            trace.status, trace.error = error.status, error.code
            disconnect.ended()
            await respond_error(send, error, decision_headers(trace))
        finally:
            disconnect.ended()
            self._gate.leave(trace)
            self._observe(trace)

    async def _cut(self, trace: Trace, send: Send) -> None:
        error = drain_cut()
        if trace.answered_by is None:
            await respond_error(send, error, decision_headers(trace))
        trace.kind, trace.status, trace.error = "error", error.status, error.code

    async def _admit(
        self, trace: Trace, scope: Scope, receive: Receive, disconnect: Disconnect
    ) -> JsonObject:
        """Authenticate, read, parse and route; fills `trace.request` and `trace.decision`."""
        monotonic = self._clock.monotonic
        headers = scope["headers"]
        principal = self._authenticator.known(headers)
        if principal is None:
            principal = await self._authenticator.authenticate(headers)
        trace.principal = principal
        self._gate.greet(principal)
        start = monotonic()
        raw = await read_body(receive)
        body = parse_json(await decompress(scope, raw, self._max_body_bytes))
        request = self._gate.enter(trace, routing_request(trace, scope, body))
        if request.session_id is not None:
            request = await self._gate.recall(trace, request)
        trace.request = request
        parsed = monotonic()
        decision = await self._decide(trace, request, disconnect)
        await self._gate.take(trace, request, decision)
        self._caller.commit(request, decision)
        self._gate.commit(trace, decision)
        trace.decision = decision
        trace.phases = (start - trace.started, parsed - start, monotonic() - parsed)
        return body

    async def _decide(
        self, trace: Trace, request: RoutingRequest, disconnect: Disconnect
    ) -> Decision:
        """The decision; what takes long (embedding models, judges, heavy strategies) leaves the event loop."""
        caller = self._caller
        if caller.is_slow(request):
            disconnect.watch()  # nobody waits for a judge on behalf of a client that left
            return await caller.decide_slowly(trace, request)
        return caller.decide(request)

    async def _answer(
        self, trace: Trace, body: JsonObject, send: Send, disconnect: Disconnect
    ) -> None:
        request = trace.request
        if request is None:  # `_admit` sets it or raises
            raise RequestError("The request was not parsed.")
        before = self._clock.monotonic()
        try:
            result = await self._caller.call(trace, request, body)
        finally:
            trace.upstream_ms = (self._clock.monotonic() - before) * 1e3
        trace.answered_by = result.deployment
        if isinstance(result, Failure):
            trace.status, trace.error = result.status or 502, result.code
            disconnect.ended()
            head = [*result.headers, *decision_headers(trace)]
            if result.retry_after_s is not None:
                head.append((b"retry-after", b"%d" % max(1, round(result.retry_after_s))))
            await respond(send, trace.status, result.body, head)
            return
        trace.status = result.status
        if request.operation == "responses":
            trace.response_id = response_id(result.body)
        if result.response is not None:
            await relay(trace, result, send, disconnect, self._attempts)
            return
        await self._whole(trace, result, send, disconnect)

    async def _whole(self, trace: Trace, reply: Reply, send: Send, disconnect: Disconnect) -> None:
        trace.kind = "success"
        trace.first_token_ms = trace.elapsed_ms()
        trace.usage = reply.usage
        if reply.usage is not None:
            trace.charge(cost_usd(reply.deployment.facts, reply.usage))
        disconnect.ended()
        await respond(send, reply.status, reply.body, [*reply.headers, *decision_headers(trace)])


def routing_request(trace: Trace, scope: Scope, body: JsonObject) -> RoutingRequest:
    """The request as the router sees it: body, our headers, and LiteLLM's names for the same things."""
    profile = session = hint = tags = None
    for name, value in scope["headers"]:
        if not name.startswith(b"x-"):
            if name in FORWARDED_HEADERS:
                trace.client_headers += ((name, value),)
            elif name == b"traceparent" and len(value) == TRACEPARENT_LENGTH:
                trace.trace_id = trace.trace_id or value[3:35].decode("latin-1")
            continue
        if name == b"x-routeiq-profile":
            profile = value.decode("latin-1")
        elif name in (b"x-routeiq-session-id", b"x-litellm-session-id"):
            session = value.decode("latin-1")
        elif name == b"x-routeiq-hint":
            hint = value.decode("latin-1")
        elif name in (b"x-routeiq-tags", b"x-litellm-tags"):
            tags = value.decode("latin-1")
        else:
            note_header(trace, name, value)
    return parse_request(
        trace.operation,
        body,
        id=trace.request_id,
        profile=profile or None,
        tags=split_tags(tags, body),
        session_id=(session or session_of(body) or "")[:SESSION_LENGTH] or None,
        hint=hint or None,
        caller=None if trace.principal is None else trace.principal.alias,
    )


def note_header(trace: Trace, name: bytes, value: bytes) -> None:
    """Headers that say how to report on the request, not how to route it."""
    if name == b"x-litellm-trace-id":
        trace.trace_id = value.decode("latin-1")[:128]
    elif name == b"x-routeiq-explain":
        trace.explain = value.strip().lower() in (b"1", b"true", b"yes")


def split_tags(value: str | None, body: JsonObject) -> frozenset[str]:
    """Tags from the header, a comma list, and from `metadata.tags` as LiteLLM's clients send them."""
    found = {tag.strip() for tag in value.split(",")} if value else set()
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        listed = metadata.get("tags")
        if isinstance(listed, list):
            found.update(tag for tag in listed if isinstance(tag, str))
    found.discard("")
    if not found:
        return NO_TAGS
    return frozenset(tag[:TAG_LENGTH] for tag in sorted(found)[:MOST_TAGS])


def session_of(body: JsonObject) -> str | None:
    """The conversation's id where no header gave one (decision 17)."""
    metadata = body.get("metadata")
    if isinstance(metadata, dict):
        for key in ("session_id", "conversation_id", "thread_id"):
            value = metadata.get(key)
            if isinstance(value, str) and value:
                return value
    previous = body.get("previous_response_id")
    return previous if isinstance(previous, str) and previous else None
