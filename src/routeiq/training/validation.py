"""What every record must satisfy, and how problems are collected: many at once, each with its file and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite

from .errors import DataError, DataProblem
from .records import Preference, Record
from .splits import text_hash

SHOWN = 20
"""Problems that are kept word for word; the rest are only counted."""
MOST = 1000
"""Problems after which reading stops: the file is not what it is taken for."""
LONGEST_ID = 1000
"""Characters of an id, a task or a model name."""


class Problems:
    """Collects what is wrong with a data set. Counts all, keeps the first `shown`."""

    def __init__(self, *, shown: int = SHOWN, most: int = MOST) -> None:
        self._shown = shown
        self._most = most
        self._kept: list[DataProblem] = []
        self.total = 0

    def __iter__(self) -> Iterator[DataProblem]:
        return iter(self._kept)

    def __len__(self) -> int:
        return self.total

    def add(self, message: str, *, file: str = "", row: int | None = None) -> None:
        """Note one.

        Raises:
            DataError: this is one more than anybody would read.
        """
        self.total += 1
        if len(self._kept) < self._shown:
            self._kept.append(DataProblem(message=message, file=file, row=row))
        if self.total >= self._most:
            self.fail()

    def fail(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            DataError: there are problems.
        """
        if self.total:
            raise DataError(self._kept, total=self.total)


class Seen:
    """Which ids were there before, as 64-bit hashes: about 60 bytes per row, whatever the ids' length."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def again(self, id: str) -> bool:
        """Whether this id was asked about before; remembers it."""
        key = text_hash(id)
        if key in self._hashes:
            return True
        self._hashes.add(key)
        return False


def check(item: Record | Preference) -> list[str]:
    """What is wrong with one record, in words; empty when it can be used."""
    found = _check_names(item)
    if isinstance(item, Preference):
        if not item.text.strip():
            found.append("the text is empty")
        if item.model_a == item.model_b:
            found.append(f"a preference between {item.model_a!r} and itself says nothing")
        if not isfinite(item.weight) or item.weight < 0:
            found.append(f"the weight must be a number of at least 0, not {item.weight!r}")
        return found
    if not item.text.strip() and item.chosen is None:  # a log may leave out the prompts
        found.append("the text is empty")
    if not item.scores and item.chosen is None:
        found.append("no model has a score")
    for name, values, most in (
        ("score", item.scores, 1.0),
        ("propensity", item.propensities, 1.0),
        ("cost", item.costs, None),
        ("latency", item.latencies, None),
        ("number of output tokens", item.output_tokens, None),
    ):
        found.extend(_check_values(name, values, most))
    return found


def _check_values(name: str, values: Mapping[str, float], most: float | None) -> Iterator[str]:
    for model, number in values.items():
        if most is None and not (isfinite(number) and number >= 0):
            yield f"the {name} of {model!r} must be a finite number of at least 0, not {number!r}"
        elif most is not None and not 0 <= number <= most:
            yield f"the {name} of {model!r} must be from 0 to 1, not {number!r}"
        if not model or len(model) > LONGEST_ID:
            yield f"a model's name must have 1 to {LONGEST_ID} characters, not {len(model)}"


def _check_names(item: Record | Preference) -> list[str]:
    return [
        f"the {what} is longer than {LONGEST_ID} characters"
        for what, text in (("id", item.id), ("task", item.task))
        if len(text) > LONGEST_ID
    ]
