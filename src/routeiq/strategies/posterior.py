"""What feedback adds to an offline prediction: discounted Beta posteriors per model and cell of the prompt space.

The posterior of a model in a cell is Beta(a, b) whose prior has the offline prediction p as its mean and is worth
`strength` outcomes. Its mean after n outcomes r_i is p + sum(r_i - p_i) / (strength + n): the offline prediction,
moved by what it was wrong by. Here the move is kept (sums of residuals and counts), so that the score stays as
smooth within a cell as the offline prediction is. Two levels: the model as a whole (a provider that degrades does
so everywhere, and this is known after few outcomes), and the cell, which learns what the whole does not explain.

Old outcomes count less with every new one of the same model (`1 - 1 / memory`). Pure Python: a request looks at
ten floats, and the NumPy call alone would cost more.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from .drift import Drift, DriftTest

STRENGTH = 100.0
"""Outcomes that the offline prediction of a model is worth, against the move of the whole model."""
CELL_STRENGTH = 100.0
"""The same for the move within a cell."""
MEMORY = 100.0
"""Outcomes of a model that count, about: the discount is 1 - 1 / MEMORY."""
CELL_MEMORY = 100.0
"""The same within a cell."""
MODELS = 512
"""Models that are kept; clients can make names through wildcards, so there is a bound."""
FORGET = 0.5
"""What is left of a cell's evidence when its model has drifted."""


class ModelPosterior:
    """One model: a move overall and one per cell, in units of quality."""

    __slots__ = ("cells", "count", "counts", "drift", "outcomes", "residual")

    def __init__(self, cells: int) -> None:
        self.count = 0.0
        self.residual = 0.0
        self.counts = [0.0] * cells
        self.cells = [0.0] * cells
        self.drift = DriftTest()
        self.outcomes = 0

    def overall(self) -> float:
        """The move of the model as a whole."""
        return self.residual / (self.count + STRENGTH)

    def move(self, cell: int | None) -> float:
        """What to add to the offline prediction in a cell (`None`: the cell is not known)."""
        moved = self.residual / (self.count + STRENGTH)
        if cell is None:
            return moved
        return moved + self.cells[cell] / (self.counts[cell] + CELL_STRENGTH)

    def add(self, cell: int | None, residual: float) -> Drift | None:
        """Take an outcome less its offline prediction; tells when the model has drifted."""
        self.outcomes += 1
        overall = self.residual / (self.count + STRENGTH)
        kept = 1.0 - 1.0 / MEMORY
        self.count = kept * self.count + 1.0
        self.residual = kept * self.residual + residual
        if cell is not None:
            kept = 1.0 - 1.0 / CELL_MEMORY
            self.counts[cell] = kept * self.counts[cell] + 1.0
            self.cells[cell] = kept * self.cells[cell] + residual - overall
        drift = self.drift.add(residual)
        if drift is not None:
            self.drift.restart(self.residual / self.count)
            self.counts = [FORGET * n for n in self.counts]
            self.cells = [FORGET * s for s in self.cells]
        return drift


class ClusterPosteriors:
    """All models. Models are named, so that ones that come and go need no bookkeeping elsewhere.

    Args:
        cells: number of cells (clusters) of the prompt space.
    """

    def __init__(self, cells: int) -> None:
        if cells < 1:
            raise ValueError(f"at least one cell is needed, not {cells!r}")
        self.cells = cells
        self._models: dict[str, ModelPosterior] = {}

    def move(self, model: str, cell: int | None) -> float:
        """What feedback adds to the offline prediction; 0 for a model without any."""
        found = self._models.get(model)
        return 0.0 if found is None else found.move(cell)

    def learn(self, model: str, cell: int | None, reward: float, predicted: float) -> Drift | None:
        """Take a reward in [0, 1] for an answer whose offline prediction was `predicted`.

        Returns:
            Which way the model has drifted, if this outcome was the one that showed it.
        """
        found = self._models.get(model)
        if found is None:
            if len(self._models) >= MODELS:
                self._models.pop(next(iter(self._models)))
            found = self._models[model] = ModelPosterior(self.cells)
        return found.add(cell, reward - predicted)

    def report(self) -> dict[str, dict[str, float]]:
        """Per model: outcomes seen, their discounted number, the move overall, how near the test is to alarm."""
        return {
            name: {
                "outcomes": one.outcomes,
                "evidence": round(one.count, 2),
                "move": round(one.overall(), 4),
                "bias": round(one.drift.bias, 4),
                "drift_level": round(one.drift.level, 3),
            }
            for name, one in self._models.items()
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "cells": self.cells,
            "models": {
                name: {
                    "count": one.count,
                    "residual": one.residual,
                    "counts": list(one.counts),
                    "cells": list(one.cells),
                    "drift": one.drift.state(),
                    "outcomes": one.outcomes,
                }
                for name, one in self._models.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace everything by what `snapshot` gave.

        Raises:
            ValueError: it is not a snapshot, or one over another number of cells; nothing was changed.
        """
        try:
            if int(state["cells"]) != self.cells:
                raise ValueError(f"over {state['cells']} cells, not {self.cells}")
            models = {str(name): self._read(one) for name, one in state["models"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a snapshot of these posteriors: {error!r}") from error
        self._models = dict(list(models.items())[-MODELS:])

    def _read(self, state: Mapping[str, Any]) -> ModelPosterior:
        one = ModelPosterior(self.cells)
        one.count, one.residual = float(state["count"]), float(state["residual"])
        one.counts = [float(n) for n in state["counts"]]
        one.cells = [float(s) for s in state["cells"]]
        one.outcomes = int(state["outcomes"])
        one.drift.restore(state["drift"])
        numbers = [one.count, one.residual, *one.counts, *one.cells, *one.drift.state()]
        if not all(map(isfinite, numbers)):
            raise ValueError("a number is not finite")
        if len(one.counts) != self.cells or len(one.cells) != self.cells:
            raise ValueError("wrong number of cells")
        return one


class Exploration:
    """How much to explore: `base`, raised to `alarm` when a model has drifted.

    What was added halves every `half_life` requests.
    """

    __slots__ = ("_alarm", "_base", "_decay", "_extra", "alarms")

    def __init__(self, base: float, alarm: float, half_life: float) -> None:
        self._base = base
        self._alarm = max(base, alarm)
        self._decay = 0.5 ** (1.0 / half_life)
        self._extra = 0.0
        self.alarms = 0

    @property
    def share(self) -> float:
        """The share of requests to explore with now."""
        return self._base + self._extra

    def next(self) -> float:
        """The share for the request at hand; one request further from the last alarm."""
        share = self._base + self._extra
        self._extra *= self._decay
        return share

    def alarm(self) -> None:
        """A model has drifted."""
        self.alarms += 1
        self._extra = self._alarm - self._base
