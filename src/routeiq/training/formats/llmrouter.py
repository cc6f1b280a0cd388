"""ulab-uiuc/LLMRouter: routing_data (JSONL or CSV, one row per query and model) and RouterDC's list.

The prompt is `query`, not `formatted_query`; `performance` is the score, `response_time` in seconds. Costs follow
from the counted tokens where a price list (llm_candidates) is given. The `.pt` file of embeddings is never read.
"""

from __future__ import annotations

from collections.abc import Iterable

from routeiq.training.records import Record

from .base import Cell, Format, Item, Row, Values, identifier, number, numbers, text


def _routing_row(row: Row) -> Iterable[Item]:
    values = row.values
    query = text(values, "query")
    task = identifier(values, "task_name", default="")
    # Not `embedding_id`: that is a place in the tensor of embeddings, not a name of the query.
    written = number(values.get("completion_tokens"), "completion_tokens")
    if written is None:
        written = number(values.get("token_num"), "token_num")
    yield Cell(
        key=f"{task}\n{identifier(values, 'task_id', default='')}\n{query}",
        text=query,
        task=task,
        model=text(values, "model_name"),
        score=number(values.get("performance"), "performance"),
        latency=number(values.get("response_time"), "response_time"),
        input_tokens=number(values.get("prompt_tokens"), "prompt_tokens"),
        output_tokens=written,
    )


def _routerdc(row: Row) -> Iterable[Item]:
    yield Record(
        id=row.place,
        text=text(row.values, "question"),
        scores=numbers(row.values.get("scores"), "scores"),
        task=identifier(row.values, "task", "dataset", default=""),
    )


def _is_routerdc(values: Values) -> bool:
    return {"question", "scores"} <= values.keys() and not values.keys() & {"id", "costs", "text"}


LLMROUTER = Format(
    name="llmrouter",
    title="LLMRouter routing_data",
    matches=lambda values: {"query", "model_name", "performance", "task_name"} <= values.keys(),
    convert=_routing_row,
)
ROUTERDC = Format(
    name="routerdc",
    title="RouterDC: question and scores",
    matches=_is_routerdc,
    convert=_routerdc,
)
