"""Decision records for tests."""

from __future__ import annotations

from typing import Any

START = 1_800_000_000.0


def record(number: int, **changes: Any) -> dict[str, Any]:
    """The `number`th record: its id and its time grow with it."""
    return {
        "kind": "decision",
        "decision_id": f"{number:024x}",
        "time": START + number,
        "key": "alice",
        "team": None,
        "model": "cheap",
        "requested": "auto",
        "strategy": "prior",
        "status": 200,
        "outcome": "success",
        "session_id": None,
        "cost_usd": 0.000123,
        "input_tokens": 10,
        "output_tokens": 20,
        "duration_ms": 12.5,
        "tags": [],
        "candidates": [{"model": "cheap", "score": 0.5}],
        **changes,
    }


def ids(records: Any) -> list[int]:
    """The numbers of records."""
    return [int(one["decision_id"], 16) for one in records]


def event(number: int, score: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Feedback on the `number`th record."""
    return {
        "decision_id": f"{number:024x}",
        "score": score,
        "key": "alice",
        "time": START + 1000,
        "admin": False,
        **changes,
    }
