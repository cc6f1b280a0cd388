"""RouterArena: predictions of a router and cached answers. For evaluation only, by its owners' rules."""

from __future__ import annotations

from collections.abc import Iterable

from .base import BadRow, Cell, Format, Item, Row, identifier, mapping, number, text

_FORBIDDEN = (
    "RouterArena forbids training on its queries. Read it with allow_evaluation_only "
    "(--evaluation-only on the command line) to evaluate on it."
)


def _prediction(row: Row) -> Iterable[Item]:
    index = identifier(row.values, "global index", "global_index", default="")
    if not index:
        raise BadRow("there is no `global index`")
    yield Cell(
        key=index,
        id=index,
        text=text(row.values, "prompt"),
        task=index.rpartition("_")[0],
        model=text(row.values, "prediction"),
        score=number(row.values.get("accuracy"), "accuracy"),
        cost=number(row.values.get("cost"), "cost"),
    )


def _cached(row: Row) -> Iterable[Item]:
    index = identifier(row.values, "global_index", "global index", default="")
    if not index:
        raise BadRow("there is no `global_index`")
    usage = mapping(row.values, "token_usage") if row.values.get("token_usage") else {}
    result = mapping(row.values, "evaluation_result") if row.values.get("evaluation_result") else {}
    yield Cell(
        key=index,
        id=index,
        text=text(row.values, "question"),
        task=index.rpartition("_")[0],
        model=text(row.values, "llm_selected"),
        score=number(result.get("score"), "evaluation_result.score"),
        input_tokens=number(usage.get("input_tokens"), "token_usage.input_tokens"),
        output_tokens=number(usage.get("output_tokens"), "token_usage.output_tokens"),
    )


ROUTERARENA = Format(
    name="routerarena",
    title="RouterArena predictions (evaluation only)",
    matches=lambda values: (
        "prediction" in values and bool({"global index", "global_index"} & values.keys())
    ),
    convert=_prediction,
    forbidden=_FORBIDDEN,
)
ROUTERARENA_CACHED = Format(
    name="routerarena-cached",
    title="RouterArena cached_results (evaluation only)",
    matches=lambda values: {"global_index", "llm_selected"} <= values.keys(),
    convert=_cached,
    forbidden=_FORBIDDEN,
)
