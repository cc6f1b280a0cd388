"""The threshold at which a share of the traffic goes to the strong model of a pair: RouteLLM's calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor

import numpy as np

from routeiq.strategies.columns import by_name, plain
from routeiq.strategies.threshold import calibrate_threshold, win_rate

from .errors import DataError
from .scoring import Scorer
from .table import Matrix, Table

DIGITS = 6
"""Decimals of a threshold that people are to copy, where they separate the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A threshold on the win rate, and the share of the rows at or above it."""

    threshold: float
    share: float
    rows: int


def calibrate(scorer: Scorer, table: Table, *, strong: str, weak: str, share: float) -> Cut:
    """The threshold at which `share` of the rows, or the most below that, go to `strong`.

    Only the prompts count, not how the models did on them; costs tell the prior which one is dearer.

    Args:
        scorer: what predicts the quality of both.
        table: a sample of the traffic.
        strong: name of the strong model.
        weak: name of the weak one.
        share: in [0, 1].

    Raises:
        DataError: the scorer does not know a model, or both are the same.
    """
    if strong == weak:
        raise DataError(f"the strong and the weak model must differ, both are {strong!r}.")
    known = by_name(scorer.models)
    for name in (strong, weak):
        if known and name not in known and plain(name) not in known:
            raise DataError(f"the artifact knows no {name!r}; it knows {', '.join(scorer.models)}.")
    scores = scorer.scores(_pair(table, strong, weak)).tolist()
    rates = [win_rate(*pair) for pair in scores]
    cut = _short(calibrate_threshold(rates, share), rates)
    above = sum(rate >= cut for rate in rates)
    return Cut(threshold=cut, share=above / len(rates), rows=len(rates))


def _short(cut: float, rates: list[float]) -> float:
    """The cut with few decimals, unless that would let others pass. Rounded down: its own row must pass."""
    short = floor(cut * 10**DIGITS) / 10**DIGITS
    return cut if any(short <= rate < cut for rate in rates) else short


def _pair(table: Table, *names: str) -> Table:
    """The table of these two models, with the costs that are known of them."""
    places = [table.models.index(name) if name in table.models else None for name in names]
    return replace(
        table,
        models=names,
        scores=_columns(table.scores, places),
        costs=_columns(table.costs, places),
        latencies=_columns(table.latencies, places),
        output_tokens=_columns(table.output_tokens, places),
        preferences=np.zeros((0, 4), dtype=np.float32),
    )


def _columns(values: Matrix, places: list[int | None]) -> Matrix:
    unknown = np.full(len(values), np.nan, dtype=np.float32)
    return np.stack([unknown if at is None else values[:, at] for at in places], axis=1)
