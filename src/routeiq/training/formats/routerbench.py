"""RouterBench (withmartian/routerbench): one row per prompt, a score and `<model>|total_cost` per model.

The published files are pickles, which are never loaded; as CSV or Parquet they can be read. Prompts are Python
lists of turns, and with five examples before the question: routed on is the last question.
"""

from __future__ import annotations

from collections.abc import Iterable

from routeiq.training.records import Record

from .base import BadRow, Format, Item, Row, identifier, last_question, number, text

_COST = "|total_cost"


def _convert(row: Row) -> Iterable[Item]:
    values = row.values
    models = [name.removesuffix(_COST) for name in values if name.endswith(_COST)]
    scores, costs = {}, {}
    for model in models:
        score = number(values.get(model), model)
        cost = number(values.get(model + _COST), model + _COST)
        if score is not None:
            scores[model] = score
        if cost is not None:
            costs[model] = cost
    if not models:
        raise BadRow(f"there is no column that ends in {_COST}")
    yield Record(
        id=identifier(values, "sample_id", default=row.place),
        text=last_question(text(values, "prompt")),
        scores=scores,
        costs=costs,
        task=identifier(values, "eval_name", default=""),
    )


ROUTERBENCH = Format(
    name="routerbench",
    title="RouterBench as CSV or Parquet",
    matches=lambda values: "prompt" in values and any(name.endswith(_COST) for name in values),
    convert=_convert,
)
