"""lm-sys/RouteLLM and Chatbot Arena: evaluation tables, judgements, battles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from routeiq.training.records import Preference, Record

from .base import (
    BadRow,
    Cell,
    Format,
    Item,
    Row,
    Values,
    identifier,
    number,
    shown,
    text,
    user_text,
)

_BEST_JUDGEMENT, _WORST_JUDGEMENT = 10.0, 1.0
_LOGICAL = frozenset({"true", "false", "0", "1", "0.0", "1.0"})
_OUTCOMES: dict[str, Literal["a", "b", "tie"]] = {
    "model_a": "a",
    "model_b": "b",
    "a": "a",
    "b": "b",
    "tie": "tie",
    "tie (bothbad)": "tie",
    "both_bad": "tie",
}
_NOT_MODELS = frozenset({"prompt", "", "index", "id", "unnamed: 0"})


def _models(values: Values) -> list[str]:
    return [
        name
        for name in values
        if name.lower() not in _NOT_MODELS and not name.endswith("_response")
    ]


def _is_table(values: Values) -> bool:
    """`prompt` and otherwise only columns that are true or false (and the models' answers)."""
    models = _models(values)
    return (
        "prompt" in values
        and len(models) >= 2
        and all(str(values[name]).strip().lower() in _LOGICAL for name in models)
    )


def _table_row(row: Row) -> Iterable[Item]:
    scores = {}
    for name in _models(row.values):
        score = number(row.values[name], name)
        if score is not None:
            scores[name] = score
    yield Record(
        id=identifier(row.values, "id", default=row.place),
        text=text(row.values, "prompt"),
        scores=scores,
    )


def _judgement(row: Row) -> Iterable[Item]:
    """MT-bench's judge gives 1 to 10; -1 is what it writes when it could not read its own verdict."""
    given = number(row.values.get("score"), "score")
    if given is None or given == -1:
        return
    if not _WORST_JUDGEMENT <= given <= _BEST_JUDGEMENT:
        raise BadRow(f"`score` must be from 1 to 10, not {shown(given)}")
    question = identifier(row.values, "question_id", default="")
    turn = identifier(row.values, "turn", default="1")
    yield Cell(
        key=f"{question}\n{turn}",
        id=f"{question}-{turn}",
        text=text(row.values, "user_prompt"),
        task="judgements",
        model=text(row.values, "model"),
        score=(given - _WORST_JUDGEMENT) / (_BEST_JUDGEMENT - _WORST_JUDGEMENT),
    )


def _battle(row: Row) -> Iterable[Item]:
    values = row.values
    id = identifier(values, "id", "question_id", "idx", default=row.place)
    prompt = values.get("prompt")
    if prompt is None:
        prompt = values.get("conversation_a")
    if prompt is None:
        raise BadRow(
            "there is no `prompt`: battles without texts need the file of texts beside them"
        )
    yield Preference(
        id=id,
        text=_asked(prompt),
        model_a=text(values, "model_a"),
        model_b=text(values, "model_b"),
        winner=_winner(values),
        task=identifier(values, "task", "language", default=""),
    )


def _asked(prompt: object) -> str:
    """The first turn: the vote is about the whole conversation, and a gateway decides at its start."""
    if isinstance(prompt, str) and prompt.startswith('["') and prompt.endswith("]"):
        import orjson  # a list of turns, written as JSON in a column

        try:
            prompt = orjson.loads(prompt)
        except orjson.JSONDecodeError:
            return str(prompt)
    return user_text(prompt[:1]) if isinstance(prompt, list) else user_text(prompt)


def _winner(values: Values) -> Literal["a", "b", "tie"]:
    given = values.get("winner")
    if isinstance(given, str) and given in _OUTCOMES:
        return _OUTCOMES[given]
    if given is not None:
        raise BadRow(f"`winner` must be model_a, model_b or tie, not {shown(given)}")
    votes = {
        side: number(values.get(f"winner_{name}"), f"winner_{name}")
        for side, name in (("a", "model_a"), ("b", "model_b"), ("tie", "tie"))
    }
    if votes["a"] == 1:
        return "a"
    if votes["b"] == 1:
        return "b"
    if votes["tie"] == 1:
        return "tie"
    raise BadRow("none of `winner_model_a`, `winner_model_b` and `winner_tie` is 1")


ROUTELLM_TABLE = Format(
    name="routellm",
    title="RouteLLM evaluation table: prompt and one column of True and False per model",
    matches=_is_table,
    convert=_table_row,
)
JUDGEMENTS = Format(
    name="judgements",
    title="MT-bench judgements (RouteLLM, FastChat)",
    matches=lambda values: {"question_id", "model", "judge", "score"} <= values.keys(),
    convert=_judgement,
)
BATTLES = Format(
    name="battles",
    title="Pairwise preferences (Chatbot Arena, RouteLLM)",
    matches=lambda values: (
        {"model_a", "model_b"} <= values.keys()
        and ("winner" in values or "winner_model_a" in values)
    ),
    convert=_battle,
)
