"""What a caller of `/routeiq/v1/decisions` asks for: from the query string, and on records in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from routeiq.exceptions import InvalidRequest
from routeiq.gateway.query import whole_number
from routeiq.state.decisions.query import EQUAL
from routeiq.types import JsonObject
from routeiq.values import value

MAX_LIMIT = 1_000
_TIMES = ("since", "until")
_LONGEST = 500


@value
class Wanted:
    """Which records, and how many. `query` is what the store takes."""

    query: Mapping[str, Any]
    limit: int = 100


def wanted(query_string: bytes, *, extra: Iterable[str] = ()) -> Wanted:
    """Read a query string; `extra` names parameters that somebody else reads.

    Raises:
        InvalidRequest: a parameter that is not known, or a value that cannot be used.
    """
    given = {name: texts[0] for name, texts in parse_qs(query_string.decode("latin-1")).items()}
    for name in extra:
        given.pop(name, None)
    limit = whole_number("limit", given.pop("limit", "100"), MAX_LIMIT)
    query: dict[str, Any] = {}
    if "cursor" in given:
        query["before_time"], query["before"] = _cursor(given.pop("cursor"))
    for name in _TIMES:
        if name in given:
            query[name] = _time(name, given.pop(name))
    for name, text in given.items():
        if name not in EQUAL:
            known = ", ".join((*EQUAL, *_TIMES, "cursor", "limit"))
            raise InvalidRequest(
                f"{name[:40]!r} is no parameter of this route; it takes {known}.", param=name[:40]
            )
        query[name] = _status(text) if name == "status" else text[:_LONGEST]
    return Wanted(query=query, limit=limit)


def cursor_of(record: Mapping[str, Any]) -> str:
    """What to send as `cursor` for the records after this one."""
    return f"{float(record['time'])!r}:{record['decision_id']}"


def matches(record: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    """What the database does, for one record in memory."""
    if any(record.get(name) != query[name] for name in EQUAL if name in query):
        return False
    at = record["time"]
    if at < query.get("since", -math.inf) or at >= query.get("until", math.inf):
        return False
    if "before" not in query:
        return True
    here: tuple[float, str] = (at, record["decision_id"])
    return here < (query["before_time"], query["before"])


def merged(
    stored: Iterable[JsonObject], waiting: Iterable[JsonObject], asked: Wanted
) -> list[JsonObject]:
    """What the store found and what has not reached it, newest first; each decision once."""
    found = {one["decision_id"]: one for one in waiting if matches(one, asked.query)}
    found |= {one["decision_id"]: one for one in stored}
    newest = sorted(found.values(), key=lambda one: (one["time"], one["decision_id"]), reverse=True)
    return newest[: asked.limit]


def _status(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise InvalidRequest(f"status must be an HTTP status, not {text[:40]!r}.", param="status")
    return int(text)


def _time(name: str, text: str) -> float:
    try:
        return time_of(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} {error}", param=name) from error


def time_of(text: str) -> float:
    """Seconds since the epoch, from a number or an ISO 8601 time (UTC where it has no zone).

    Raises:
        ValueError: it is neither.
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(
                f"must be seconds since the epoch or a time like 2030-01-31T12:00:00Z, not {text[:40]!r}."
            ) from error
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(f"must be a time, not {text[:40]!r}.")
    return seconds


def _cursor(text: str) -> tuple[float, str]:
    at, _, id = text.partition(":")
    try:
        seconds = float(at)
    except ValueError:
        seconds = math.nan
    if not id or not math.isfinite(seconds):
        raise InvalidRequest("cursor must be the `next` of an answer.", param="cursor")
    return seconds, id[:_LONGEST]
