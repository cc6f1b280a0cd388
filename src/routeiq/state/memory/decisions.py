"""`Decisions` in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from routeiq.state.decisions.ledger import Rated
from routeiq.types import JsonObject

FIELDS = frozenset(
    (
        "key",
        "team",
        "model",
        "requested",
        "strategy",
        "status",
        "outcome",
        "session_id",
        "experiment",
        "variant",
    )
)


class MemoryDecisions:
    """Records that end with the process; nothing bounds them but `prune`."""

    def __init__(self) -> None:
        self._records: dict[str, JsonObject] = {}
        self._feedback: dict[tuple[str, str], JsonObject] = {}
        self._position = 0

    async def add(self, records: Sequence[JsonObject]) -> None:
        """Store a batch; a record that is there already is skipped."""
        for record in records:
            self._records.setdefault(record["decision_id"], dict(record))

    async def get(self, decision_id: str) -> JsonObject | None:
        """One record with its feedback."""
        record = self._records.get(decision_id)
        return None if record is None else self._with_feedback(record)

    async def search(self, query: Mapping[str, Any], *, limit: int) -> Sequence[JsonObject]:
        """Records that match, newest first."""
        last = self._records.get(query.get("before") or "")
        if query.get("before") is not None and last is None:
            return []
        found = [
            record
            for record in sorted(self._records.values(), key=_age, reverse=True)
            if _matches(record, query) and (last is None or _age(record) < _age(last))
        ]
        return [self._with_feedback(record) for record in found[:limit]]

    async def feedback(self, event: JsonObject) -> bool:
        """Keep feedback; whether the record was there. The last one of a key counts."""
        return (await self.rate(event)).found

    async def rate(self, event: JsonObject) -> Rated:
        """Keep feedback; the score that the decision had until then."""
        if event["decision_id"] not in self._records:
            return Rated(found=False)
        scores = [row["score"] for row in self._given(event["decision_id"])]
        self._position += 1
        row = {**event, "position": self._position}
        self._feedback.pop((event["decision_id"], event["key"]), None)
        self._feedback[event["decision_id"], event["key"]] = row
        return Rated(found=True, before=scores[-1] if scores else None)

    async def feedback_since(self, position: int, *, limit: int = 1000) -> Sequence[JsonObject]:
        """Feedback after a position, oldest first."""
        rows = [dict(row) for row in self._feedback.values() if row["position"] > position]
        return rows[:limit]

    async def feedback_end(self) -> int:
        """The position of the last feedback."""
        return self._position

    async def prepare(self, now_s: float) -> None:
        """Nothing: there is room."""

    async def prune(self, before_s: float) -> int:
        """Delete records older than this time with their feedback, and feedback as old; how many records."""
        old = {id for id, record in self._records.items() if record["time"] < before_s}
        for id in old:
            del self._records[id]
        for which, row in list(self._feedback.items()):
            if which[0] in old or row["time"] < before_s:
                del self._feedback[which]
        return len(old)

    def _with_feedback(self, record: JsonObject) -> JsonObject:
        return {**record, "feedback": self._given(record["decision_id"])}

    def _given(self, id: str) -> list[JsonObject]:
        return [dict(row) for which, row in self._feedback.items() if which[0] == id]


def _age(record: JsonObject) -> tuple[float, str]:
    return record["time"], record["decision_id"]


def _matches(record: JsonObject, query: Mapping[str, Any]) -> bool:
    since, until = query.get("since"), query.get("until")
    if since is not None and record["time"] < since:
        return False
    if until is not None and record["time"] >= until:
        return False
    wanted = {name: query[name] for name in FIELDS & query.keys() if query[name] is not None}
    return all(record.get(name) == value for name, value in wanted.items())
