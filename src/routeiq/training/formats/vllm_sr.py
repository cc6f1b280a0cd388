"""vLLM semantic-router: training rows and OfflineDatasetRecord."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from routeiq.training.records import Record

from .base import BadRow, Cell, Format, Item, Row, Values, identifier, mapping, number, text

_FEEDBACK = {
    "implicit_satisfied": 1.0,
    "implicit_need_clarification": 0.5,
    "implicit_wrong_answer": 0.0,
    "implicit_want_different": 0.0,
}


def _training_row(row: Row) -> Iterable[Item]:
    query = text(row.values, "query")
    category = identifier(row.values, "category", "task_name", default="")
    yield Cell(
        key=f"{category}\n{query}",
        text=query,
        task=category,
        model=text(row.values, "model_name"),
        score=number(row.values.get("performance"), "performance"),
        latency=number(row.values.get("response_time"), "response_time"),
        input_tokens=number(row.values.get("prompt_tokens"), "prompt_tokens"),
        output_tokens=number(row.values.get("completion_tokens"), "completion_tokens"),
    )


def _offline(row: Row) -> Iterable[Item]:
    """Live traffic without prompts: what the chosen model did. The scores at decision time are no outcomes.

    The reward is `won` (a tie is a half) where somebody compared, else what the type of feedback means.
    """
    values = row.values
    model = text(values, "selected_model")
    outcome = mapping(values, "outcome")
    score = _reward(outcome)
    cost = number(outcome.get("actual_cost"), "actual_cost")
    written = number(outcome.get("completion_tokens"), "completion_tokens")
    session = identifier(values, "session_id", default=row.place)
    turn = identifier(values, "turn_index", default="0")
    yield Record(
        id=f"{session}-{turn}",
        text=text(values, "query", "prompt", required=False),
        scores={} if score is None else {model: score},
        costs={model: cost} if cost else {},
        output_tokens={model: written} if written else {},
        task=identifier(values, "category_name", "decision_name", default=""),
        chosen=model,
        extra={"candidates": _names(values), "user": values.get("user_id")},
    )


def _names(values: Values) -> list[str]:
    given = values.get("candidate_models")
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def _reward(outcome: Mapping[str, object]) -> float | None:
    if outcome.get("tie") is True:
        return 0.5
    won = outcome.get("won")
    if won is not None:
        return number(won, "outcome.won")
    kind = outcome.get("feedback_type")
    if kind is None or kind in ("", "explicit"):
        return None
    if not isinstance(kind, str) or kind not in _FEEDBACK:
        raise BadRow(f"`outcome.feedback_type` {kind!r} is not known")
    return _FEEDBACK[kind]


VLLM_SR = Format(
    name="vllm-sr",
    title="vLLM semantic-router training data",
    matches=lambda values: {"query", "model_name", "performance"} <= values.keys(),
    convert=_training_row,
)
VLLM_SR_OFFLINE = Format(
    name="vllm-sr-offline",
    title="vLLM semantic-router OfflineDatasetRecord",
    matches=lambda values: {"selected_model", "candidate_models", "outcome"} <= values.keys(),
    convert=_offline,
)
