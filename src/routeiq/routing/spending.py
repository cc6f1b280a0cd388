"""How long answers are: the half of a request's cost that has to be predicted.

Cost = prompt tokens x price in + expected output tokens of that model x price out. Output lengths differ tenfold
between models, so each model's own mean is learnt from the usage that providers report.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_TOKENS = 256.0
"""Mean length of an answer of a model about which nothing is known."""
STRENGTH = 10.0
"""How many answers the expectation that a model starts with is worth."""
SMOOTHING = 0.01
"""Least weight of the newest answer: the mean covers the last few hundred, so a changed model is followed."""
SIZE = 4096
"""Models remembered: names that a wildcard matched are the client's to choose, so there is a bound."""


class OutputLength:
    """The running mean of one model's answers, in tokens."""

    __slots__ = ("mean", "seen")

    def __init__(self, mean: float = DEFAULT_TOKENS) -> None:
        self.mean = mean
        self.seen = 0

    def add(self, tokens: int) -> None:
        """A whole answer had this many output tokens (reasoning included, as it is billed)."""
        if tokens < 0:
            return
        self.seen += 1
        self.mean += (tokens - self.mean) * max(SMOOTHING, 1.0 / (STRENGTH + self.seen))

    def expected(self, limit: int | None, choices: int = 1) -> float:
        """Tokens to expect for a request that allows `limit` per answer and asks for `choices` answers."""
        mean = self.mean
        return (mean if limit is None or limit > mean else limit) * choices


class OutputLengths:
    """The lengths of all models, by model group. Plain attributes on one event loop, O(1), no I/O.

    Args:
        expected: where models start, in tokens, e.g. an artifact's `output_tokens`.
        default: where the others start.
    """

    __slots__ = ("_default", "_expected", "_lengths")

    def __init__(
        self, expected: Mapping[str, float] | None = None, *, default: float = DEFAULT_TOKENS
    ) -> None:
        self._expected = dict(expected or {})
        self._default = default
        self._lengths: dict[str, OutputLength] = {}

    def of(self, group: str) -> OutputLength:
        """The live mean of a model group; keep it, to spare a look-up per request."""
        found = self._lengths.get(group)
        if found is None:
            if len(self._lengths) >= SIZE:
                self._lengths.pop(next(iter(self._lengths)))
            start = self._expected.get(group, self._default)
            found = self._lengths[group] = OutputLength(start)
        return found

    def expect(self, expected: Mapping[str, float]) -> None:
        """Better starting points, by group: for models of which no answer was seen yet."""
        self._expected.update(expected)
        for group, tokens in expected.items():
            length = self._lengths.get(group)
            if length is not None and not length.seen:
                length.mean = tokens

    def snapshot(self) -> dict[str, tuple[float, int]]:
        """Mean and number of answers by group, as JSON, for `restore` after a restart."""
        return {group: (one.mean, one.seen) for group, one in self._lengths.items() if one.seen}

    def restore(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Take over what `snapshot` gave."""
        for group, (mean, seen) in state.items():
            length = self.of(group)
            length.mean, length.seen = float(mean), int(seen)
