"""LLMRouter's llm_candidates: `{name: {size, feature, input_price, output_price, model, service}}`.

Not a data set: a list of models whose prices (USD per million tokens) turn counted tokens into costs.
"""

from __future__ import annotations

from collections.abc import Mapping

from routeiq.training.errors import DataError, DataProblem

from .base import BadRow, Row, Values, number

_MILLION = 1e6


def is_price_list(values: Values) -> bool:
    """Whether this object maps models to prices."""
    return bool(values) and all(
        isinstance(facts, Mapping) and "input_price" in facts for facts in values.values()
    )


def price_list(row: Row) -> dict[str, tuple[float, float]]:
    """USD per prompt and per answer token of every model, under its name there and its `model` name.

    Raises:
        DataError: a price is no number.
    """
    found: dict[str, tuple[float, float]] = {}
    try:
        for name, facts in row.values.items():
            per_input = number(facts.get("input_price"), f"{name}.input_price") or 0.0
            per_output = number(facts.get("output_price"), f"{name}.output_price") or 0.0
            prices = (per_input / _MILLION, per_output / _MILLION)
            found[name] = prices
            if isinstance(facts.get("model"), str):
                found.setdefault(facts["model"], prices)
    except BadRow as wrong:
        raise DataError([DataProblem(message=str(wrong), file=row.file)]) from wrong
    return found
