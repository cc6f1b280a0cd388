"""RouteIQ's own decision log: decisions and feedback as events, joined by `decision_id`.

A decision says what was chosen, with which probabilities, what it cost and how long it took; feedback (0 to 1)
is the score of what was chosen. A log without prompts has their hashes and, where configured, their features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .base import BadRow, Cell, Format, Item, Row, Values, identifier, number, numbers, shown, text

_MS = 1000.0


def _convert(row: Row) -> Iterable[Item]:
    values = row.values
    key = identifier(values, "decision_id", default="")
    if not key:
        raise BadRow("there is no `decision_id`")
    kind = values.get("kind", "decision")
    if kind == "feedback":
        yield Cell(key=key, id=key, score=_score(values))
    elif kind == "decision":
        yield from _decision(key, values)
    # Other kinds of events are not about outcomes.


def _score(values: Values) -> float:
    score = number(values.get("score"), "score")
    if score is None or not 0 <= score <= 1:
        raise BadRow(f"`score` must be from 0 to 1, not {shown(values.get('score'))}")
    return score


def _decision(key: str, values: Values) -> Iterable[Item]:
    """One event; nothing when no model was called.

    Feedback is about the model that answered. After a fallback that is not the one that was chosen: such a row
    teaches about the answer and has no propensity, because nobody chose it.
    """
    model = text(values, "model", "chosen", required=False)
    if not model:
        return
    failed = values.get("outcome") not in (None, "success")
    duration = number(values.get("duration_ms"), "duration_ms")
    yield Cell(
        key=key,
        id=key,
        text=text(values, "route_text", required=False),
        task=identifier(values, "profile", default=""),
        model=model,
        chosen=True,
        score=None,
        cost=None if failed else number(values.get("cost_usd"), "cost_usd"),
        latency=None if failed or duration is None else duration / _MS,
        output_tokens=None if failed else number(values.get("output_tokens"), "output_tokens"),
        extra=_extra(model, values),
    )


def _extra(model: str, values: Values) -> dict[str, Any]:
    kept = {
        name: values[name]
        for name in (
            "features",
            "fingerprint",
            "route_text_hash",
            "request_id",
            "strategy",
            "status",
            "outcome",
            "time",
        )
        if values.get(name) is not None
    }
    kept["propensities"] = _propensities(model, values)
    kept["candidates"], kept["predicted"], kept["costs"] = _candidates(values)
    return kept


def _propensities(model: str, values: Values) -> dict[str, float]:
    """Of every model where the strategy said so, else of the chosen one; none after a fallback."""
    if values.get("chosen") not in (None, model):
        return {}
    given = values.get("propensities")
    if given is not None:
        return numbers(given, "propensities")
    chosen = number(values.get("propensity"), "propensity")
    return {} if chosen is None else {model: chosen}


def _candidates(values: Values) -> tuple[list[str], dict[str, float], dict[str, float]]:
    """The candidates, their predicted scores and costs (the chosen one's cost is replaced by the real one)."""
    given = values.get("candidates")
    if given is None:
        return [], {}, {}
    if not isinstance(given, list):
        raise BadRow(f"`candidates` must be a list, not {shown(given)}")
    names, scores, costs = [], {}, {}
    for one in given:
        if not isinstance(one, Mapping):
            raise BadRow(f"a candidate must be an object, not {shown(one)}")
        model = text(one, "model")
        names.append(model)
        score = number(one.get("score"), "candidates.score")
        cost = number(one.get("cost_usd"), "candidates.cost_usd")
        if score is not None:
            scores[model] = score
        if cost is not None:
            costs[model] = cost
    return names, scores, costs


DECISION_LOG = Format(
    name="decision-log",
    title="RouteIQ decision log",
    matches=lambda values: (
        "decision_id" in values and ("kind" in values or {"strategy", "model"} <= values.keys())
    ),
    convert=_convert,
)
