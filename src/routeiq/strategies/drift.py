"""Has a model changed? A two-sided CUSUM on how far its outcomes are from what was predicted.

E. S. Page, Continuous inspection schemes, Biometrika 41 (1954); with the slowly learnt mean of the Page-Hinkley
variant, so that a constant bias of the prediction is no drift. Standard library only, O(1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

SLACK = 0.15
"""Half of the shift in mean quality that must be found: below it the sums fall back to zero."""
THRESHOLD = 4.5
"""Sum that raises the alarm. With outcomes of 0 and 1 a loss of 40 % is found after 30 to 40 of them."""
PRIOR = 50.0
"""Outcomes that the assumption "the prediction has no bias" is worth."""

Drift = Literal["worse", "better"]


class DriftTest:
    """One model's test. `bias` is the mean of outcome - prediction since the last alarm."""

    __slots__ = ("_above", "_below", "_seen", "bias")

    def __init__(self) -> None:
        self.bias = 0.0
        self._seen = 0.0
        self._above = 0.0
        self._below = 0.0

    @property
    def level(self) -> float:
        """How near the test is to an alarm, 0 to 1."""
        return max(self._above, self._below) / THRESHOLD

    def add(self, residual: float) -> Drift | None:
        """Take an outcome less its prediction, in [-1, 1]; which way the model has drifted, if it has.

        After an alarm the test starts anew around the bias that was seen while it built up.
        """
        off = residual - self.bias
        self._above = max(0.0, self._above + off - SLACK)
        self._below = max(0.0, self._below - off - SLACK)
        found: Drift | None = None
        if self._above > THRESHOLD:
            found = "better"
        elif self._below > THRESHOLD:
            found = "worse"
        if found is None:
            self._seen += 1.0
            self.bias += off / (self._seen + PRIOR)
        return found

    def restart(self, bias: float) -> None:
        """Begin again, with `bias` as what is normal now."""
        self.bias = bias
        self._seen = self._above = self._below = 0.0

    def state(self) -> list[float]:
        """Four numbers for `restore`."""
        return [self.bias, self._seen, self._above, self._below]

    def restore(self, state: Sequence[float]) -> None:
        """Take over what `state` gave."""
        self.bias, self._seen, self._above, self._below = map(float, state)
