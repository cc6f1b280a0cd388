"""The admin API's part on decisions: search, look at one, export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import orjson

from routeiq.access.authentication import Authenticator
from routeiq.exceptions import InvalidRequest, NotFound, StoreUnavailable
from routeiq.gateway.asgi import JSON, Receive, Routes, Scope, Send, respond
from routeiq.gateway.decision_query import Wanted, cursor_of, merged, wanted
from routeiq.gateway.feedback import not_yours, owns
from routeiq.gateway.state_errors import unavailable
from routeiq.gateway.watch import SCOPE_KEY
from routeiq.state.decisions import DecisionLedger
from routeiq.state.decisions.export import lines, pages
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import DecisionLog
from routeiq.types import JsonObject

BASE = "/routeiq/v1/decisions"
PERMISSION = "decisions.read"
HEAVY = frozenset(
    (
        "kind",
        "candidates",
        "propensities",
        "exclusions",
        "attempts_made",
        "route_text",
        "features",
        "fingerprint",
    )
)
"""What a list leaves out: ask for the one decision to see it."""
_MEMORY = 1_000_000


class DecisionsApi:
    """Handlers. With `decisions.read` a key sees all decisions, without it its own, one at a time by id.

    What has not reached the database yet is found too, if this worker made it. While the database is down there is
    only that, and answers say `degraded`.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        decisions: DecisionLedger | None,
        memory: DecisionLog,
        store_writer: DecisionStore | None,
    ) -> None:
        self._authenticator = authenticator
        self._decisions = decisions
        self._memory = memory
        self._writer = store_writer

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {
            BASE: {"GET": self.list},
            f"{BASE}/export": {"GET": self.export},
            f"{BASE}/{{id}}": {"GET": self.one},
        }

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Records that match, newest first, `next` being the cursor of the next page."""
        await self._authenticator.require(scope["headers"], PERMISSION)
        asked = wanted(scope["query_string"])
        stored: Sequence[JsonObject] = ()
        degraded = False
        if self._decisions is not None:
            try:
                stored = await self._decisions.search(asked.query, limit=asked.limit)
            except StoreUnavailable:
                degraded = True
        here = self._here()
        body = await asyncio.to_thread(_page, stored, here, asked, degraded)
        await respond(send, 200, body, [JSON])

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One record with its candidates, exclusions, attempts and feedback."""
        principal = await self._authenticator.authenticate(scope["headers"])
        name: str = scope["path_params"]["id"]
        found, degraded = None, False
        if self._decisions is not None:
            try:
                found = await self._decisions.get(name)
            except StoreUnavailable:
                degraded = True
        if found is None:
            found = self._memory.get(name) or self._waiting(name)
        if not principal.may(PERMISSION):
            if found is None or not owns(principal, found):
                raise not_yours(name)
        elif found is None:
            raise self._unknown(name)
        shown = _shown(found)
        if degraded:
            shown["degraded"] = True
        await respond(send, 200, orjson.dumps(shown), [JSON])

    async def export(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All matching records as JSON lines, newest first, each followed by the feedback on it."""
        await self._authenticator.require(scope["headers"], PERMISSION)
        _check_format(scope["query_string"])
        asked = wanted(scope["query_string"], extra=("format",))
        if self._decisions is None:
            found = await asyncio.to_thread(merged, (), self._here(), _all(asked))
            chunks = _in_memory(found)
        else:
            if self._writer is not None:
                await unavailable(self._writer.flush())
            chunks = _stored(self._decisions, asked)
        await _stream(scope, send, chunks)

    def _here(self) -> Sequence[JsonObject]:
        """This worker's records, oldest first; those of the writer are the more complete ones."""
        newest_first = self._memory.latest(_MEMORY)
        waiting = [] if self._writer is None else self._writer.waiting()
        return [*reversed(newest_first), *waiting]

    def _waiting(self, name: str) -> JsonObject | None:
        if self._writer is None:
            return None
        return next((one for one in self._writer.waiting() if one["decision_id"] == name), None)

    def _unknown(self, name: str) -> NotFound:
        where = "in the database; old ones are deleted"
        if self._decisions is None:
            where = f"in this worker's memory; it keeps the last {self._memory.size}"
        return NotFound(f"No decision {name[:100]!r} {where}.")


def _page(
    stored: Iterable[JsonObject], here: Iterable[JsonObject], asked: Wanted, degraded: bool
) -> bytes:
    found = merged(stored, here, asked)
    body: dict[str, Any] = {
        "data": [
            {name: value for name, value in _shown(one).items() if name not in HEAVY}
            for one in found
        ],
        "next": cursor_of(found[-1]) if len(found) == asked.limit else None,
    }
    if degraded:
        body["degraded"] = True
    return orjson.dumps(body)


def _shown(record: JsonObject) -> JsonObject:
    """A record as the API gives it: `feedback` is the score that counts, `ratings` all that was said."""
    given = record.get("feedback")
    if not isinstance(given, list):
        return dict(record)
    shown = {name: value for name, value in record.items() if name != "feedback"}
    if given:
        shown["feedback"] = given[-1]["score"]
        shown["ratings"] = given
    return shown


def _check_format(query_string: bytes) -> None:
    asked = parse_qs(query_string.decode("latin-1")).get("format", ["jsonl"])[0]
    if asked != "jsonl":
        raise InvalidRequest(
            "format must be jsonl; `routeiq decisions export` writes parquet too.", param="format"
        )


def _all(asked: Wanted) -> Wanted:
    return Wanted(query=asked.query, limit=_MEMORY)


async def _in_memory(records: Sequence[JsonObject]) -> AsyncIterator[bytes]:
    plain = [{name: v for name, v in one.items() if name != "feedback"} for one in records]
    yield await asyncio.to_thread(lines, plain)


async def _stored(decisions: DecisionLedger, asked: Wanted) -> AsyncIterator[bytes]:
    async for page in pages(decisions, asked.query):
        yield await asyncio.to_thread(partial(lines, page))


async def _stream(scope: Scope, send: Send, chunks: AsyncIterator[bytes]) -> None:
    """Send piece by piece; an error before the first is answered as one, a later one cuts the answer."""
    first = await unavailable(anext(chunks, b""))
    headers = [
        (b"content-type", b"application/x-ndjson"),
        (b"content-disposition", b'attachment; filename="decisions.jsonl"'),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    connection = scope.get(SCOPE_KEY)
    async for chunk in chunks:
        if connection is not None and connection.gone():
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
