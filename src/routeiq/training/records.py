"""The canonical records: what a data set says about a prompt, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One prompt and how models did on it. Models may be missing in any of the maps.

    `text` is what a router sees (the user's question). `scores` are in [0, 1]; `costs` in USD for the
    request; `latencies` in seconds; `output_tokens` as counted. `propensities` are the probabilities with
    which a logging policy would have chosen each model, `chosen` the one it chose (live traffic only).
    """

    id: str
    text: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)
    latencies: Mapping[str, float] = field(default_factory=dict)
    output_tokens: Mapping[str, float] = field(default_factory=dict)
    task: str = ""
    split: str | None = None
    propensities: Mapping[str, float] = field(default_factory=dict)
    chosen: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which of two models answered a prompt better, as a person or a judge said."""

    id: str
    text: str
    model_a: str
    model_b: str
    winner: Literal["a", "b", "tie"]
    task: str = ""
    weight: float = 1.0
