"""GMTRouter: conversations with ratings.

A line is `{judge, model, question_id, turn, conversation: [{query, response, rating}]}`.

Every turn is a prompt of its own, and the ratings of several judges are averaged: who judged is not a feature
here. The scale is not in the file (its documentation says 0 to 5 or 0 to 1, judges of MT-bench give up to 10):
the highest rating of all files decides, see `joining.SCALES`. Embeddings are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .base import BadRow, Cell, Format, Item, Row, identifier, items, number, shown, text


def _convert(row: Row) -> Iterable[Item]:
    question = identifier(row.values, "question_id", default=str(row.number))
    model = text(row.values, "model")
    first = identifier(row.values, "turn", default="1")
    for place, turn in enumerate(items(row.values, "conversation")):
        if not isinstance(turn, Mapping):
            raise BadRow(f"a turn must be an object, not {shown(turn)}")
        rating = number(turn.get("rating"), "rating")
        query = text(turn, "query")
        if rating is not None:
            yield Cell(
                key=f"{question}\n{first}\n{place}\n{query}",
                id=f"{question}-{first}-{place}",
                text=query,
                task="conversation",
                model=model,
                score=rating,
                rated=True,
            )


GMTROUTER = Format(
    name="gmtrouter",
    title="GMTRouter: conversations with ratings",
    matches=lambda values: {"judge", "model", "conversation"} <= values.keys(),
    convert=_convert,
)
