"""RouteIQ's own plain forms: what to write when there is a choice.

JSONL, JSON or Parquet with maps: `{id, task, route_text | text | prompt, scores: {model: 0..1}, costs: {model:
USD}}` and optionally `latency` (seconds) and `out_tokens`, maps as well. CSV or Parquet, wide: `text` and
columns `score:<model>`, `cost:<model>`, `latency:<model>`, `out_tokens:<model>`. CSV, JSONL or Parquet, long:
`text, model, score` and optionally `cost, latency, out_tokens`, one row per model.
"""

from __future__ import annotations

from collections.abc import Iterable

from routeiq.training.records import Record

from .base import BadRow, Cell, Format, Item, Row, Values, identifier, number, numbers, user_text

TEXTS = ("route_text", "text", "prompt", "query", "question", "messages")
LATENCY = ("latency", "latencies", "latency_s")
TOKENS = ("out_tokens", "output_tokens")
_PREFIXES = ("score:", "cost:", "latency:", "out_tokens:")


def _route_text(values: Values) -> str:
    for name in TEXTS:
        given = values.get(name)
        if given is not None and given != "":
            return user_text(given)
    raise BadRow("there is no `route_text`, `text` or `prompt`, or it is empty")


def _first(values: Values, names: Iterable[str]) -> object:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _split(values: Values) -> str | None:
    given = values.get("split")
    return given if isinstance(given, str) and given else None


def _maps(row: Row) -> Iterable[Item]:
    values = row.values
    yield Record(
        id=identifier(values, "id", default=row.place),
        text=_route_text(values),
        scores=numbers(values.get("scores"), "scores"),
        costs=numbers(values.get("costs"), "costs"),
        latencies=numbers(_first(values, LATENCY), "latency"),
        output_tokens=numbers(_first(values, TOKENS), "out_tokens"),
        task=identifier(values, "task", default=""),
        split=_split(values),
    )


def _columns(row: Row) -> Iterable[Item]:
    found: dict[str, dict[str, float]] = {prefix: {} for prefix in _PREFIXES}
    for name, given in row.values.items():
        prefix, colon, model = name.partition(":")
        if colon and prefix + colon in found:
            value = number(given, name)
            if value is not None:
                found[prefix + colon][model] = value
    yield Record(
        id=identifier(row.values, "id", default=row.place),
        text=_route_text(row.values),
        scores=found["score:"],
        costs=found["cost:"],
        latencies=found["latency:"],
        output_tokens=found["out_tokens:"],
        task=identifier(row.values, "task", default=""),
        split=_split(row.values),
    )


def _long(row: Row) -> Iterable[Item]:
    values = row.values
    asked = _route_text(values)
    id = identifier(values, "id", default="")
    task = identifier(values, "task", default="")
    yield Cell(
        key=f"{task}\n{id}\n{asked}",
        id=id,
        text=asked,
        task=task,
        model=identifier(values, "model", default=""),
        score=number(values.get("score"), "score"),
        cost=number(_first(values, ("cost", "cost_usd")), "cost"),
        latency=number(_first(values, LATENCY), "latency"),
        output_tokens=number(_first(values, TOKENS), "out_tokens"),
    )


def _has_text(values: Values) -> bool:
    return any(name in values for name in TEXTS)


PLAIN = Format(
    name="plain",
    title="RouteIQ: one row per prompt, scores and costs as maps",
    matches=lambda values: "scores" in values and _has_text(values),
    convert=_maps,
)
PLAIN_WIDE = Format(
    name="plain-wide",
    title="RouteIQ: one row per prompt, columns score:<model>, cost:<model>",
    matches=lambda values: _has_text(values) and any(n.startswith("score:") for n in values),
    convert=_columns,
)
PLAIN_LONG = Format(
    name="plain-long",
    title="RouteIQ: one row per prompt and model",
    matches=lambda values: _has_text(values) and {"model", "score"} <= values.keys(),
    convert=_long,
)
