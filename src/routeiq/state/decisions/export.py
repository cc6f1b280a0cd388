"""Decision records as lines: the same ones as in the decision log's files, for replay and training."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import orjson

from routeiq.stores import Decisions
from routeiq.types import JsonObject

PAGE = 500
"""Records that are in memory at once."""
_LINE = orjson.OPT_APPEND_NEWLINE


async def pages(
    decisions: Decisions, query: Mapping[str, Any], *, size: int = PAGE
) -> AsyncIterator[Sequence[JsonObject]]:
    """Records that match, newest first, page by page: what is added meanwhile does not shift them."""
    asked = dict(query)
    while True:
        found = await decisions.search(asked, limit=size)
        if found:
            yield found
        if len(found) < size:
            return
        last = found[-1]
        asked |= {"before": last["decision_id"], "before_time": last["time"]}


def lines(records: Iterable[JsonObject]) -> bytes:
    """JSON lines: each record, then the feedback on it."""
    return b"".join(orjson.dumps(event, option=_LINE) for event in _events(records))


def _events(records: Iterable[JsonObject]) -> Iterable[JsonObject]:
    for record in records:
        given = record.get("feedback") or ()
        event = {"kind": "decision", **record}
        event.pop("feedback", None)
        yield event
        for one in given:
            yield {"kind": "feedback", **one}
