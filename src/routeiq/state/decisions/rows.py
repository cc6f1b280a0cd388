"""From a decision record to a table row and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from routeiq.state.database import Row
from routeiq.stores import NANO
from routeiq.types import JsonObject

_BIGGEST = 2**63 - 1
_BIGGEST_STATUS = 2**31 - 1
TEXTS = (
    "key",
    "team",
    "model",
    "requested",
    "strategy",
    "outcome",
    "session_id",
    "experiment",
    "variant",
)
COLUMNS = (
    "decision_id",
    "time",
    *TEXTS,
    "status",
    "cost_nano",
    "input_tokens",
    "output_tokens",
    "duration_ms",
    "record",
)
INSERT = (
    f"INSERT INTO routeiq_decisions ({', '.join(COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join(':' + name for name in COLUMNS)}) ON CONFLICT DO NOTHING"
)
FEEDBACK = "decision_id, key, position, time, score, label, comment, admin"


def row_of(record: JsonObject) -> dict[str, Any]:
    """The parameters of `INSERT`. What a column cannot hold is left to the JSON alone.

    Raises:
        TypeError: the record cannot be written as JSON, or has no id or time.
        ValueError: the same.
    """
    row: dict[str, Any] = {name: clean(record.get(name)) for name in TEXTS}
    row["decision_id"] = str(record["decision_id"])
    row["time"] = float(record["time"])
    status = record.get("status")
    row["status"] = status if isinstance(status, int) and abs(status) <= _BIGGEST_STATUS else None
    cost = _number(record.get("cost_usd"))
    row["cost_nano"] = None if cost is None else _whole(cost * NANO)
    row["input_tokens"] = _whole(record.get("input_tokens"))
    row["output_tokens"] = _whole(record.get("output_tokens"))
    row["duration_ms"] = _number(record.get("duration_ms"))
    row["record"] = orjson.dumps(record).decode()
    return row


def clean(value: object) -> str | None:
    """Text as PostgreSQL takes it: it has no NUL, which a client may send as part of a name."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < _BIGGEST else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None or abs(number) >= _BIGGEST else round(number)


def record_of(text: str) -> JsonObject:
    """The record in a row's JSON."""
    record: JsonObject = orjson.loads(text)
    return record


def feedback_of(row: Row) -> JsonObject:
    """A row of `SELECT {FEEDBACK}` as an event."""
    decision_id, key, position, time, score, label, comment, admin = row
    event = {
        "decision_id": decision_id,
        "key": key,
        "position": position,
        "time": time,
        "score": score,
        "admin": bool(admin),
    }
    if label is not None:
        event["label"] = label
    if comment is not None:
        event["comment"] = comment
    return event


def named(values: Sequence[str], prefix: str) -> tuple[str, dict[str, str]]:
    """The inside of an `IN (…)`, and its parameters."""
    parameters = {f"{prefix}{n}": value for n, value in enumerate(values)}
    return ", ".join(":" + name for name in parameters), parameters
