"""Outcome matrices that grow in rows and in models while a data set is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np

from .records import Record
from .table import Matrix

_FIELDS = ("scores", "costs", "latencies", "output_tokens")


class Columns:
    """Chunks of rows, each as wide as the models that were known when it came."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._chunks: dict[str, list[Matrix | None]] = {name: [] for name in _FIELDS}
        self._sizes: list[int] = []

    def know(self, *models: str) -> None:
        """Give models a column, in the order in which they first come."""
        for model in models:
            self._places.setdefault(model, len(self._places))

    def add(self, records: Sequence[Record]) -> None:
        """Append the outcomes of some records."""
        for record in records:
            self.know(*record.scores, *record.costs)
        self._sizes.append(len(records))
        for name in _FIELDS:
            self._chunks[name].append(self._chunk(list(map(attrgetter(name), records))))

    def finish(self, rows: int) -> tuple[tuple[str, ...], dict[str, Matrix]]:
        """The models, sorted, and a matrix (rows, models) per kind of outcome; NaN where nothing was measured."""
        models = tuple(sorted(self._places))
        order = np.array([self._places[model] for model in models], dtype=np.int64)
        matrices = {}
        for name in _FIELDS:
            whole = np.full((rows, len(models)), np.nan, dtype=np.float32)
            start = 0
            for size, chunk in zip(self._sizes, self._chunks.pop(name), strict=True):
                if chunk is not None:
                    known = np.flatnonzero(order < chunk.shape[1])
                    whole[start : start + size, known] = chunk[:, order[known]]
                start += size
            matrices[name] = whole
        return models, matrices

    def _chunk(self, maps: list[Mapping[str, float]]) -> Matrix | None:
        if not any(maps):
            return None
        chunk = np.full((len(maps), len(self._places)), np.nan, dtype=np.float32)
        places = self._places
        for row, values in enumerate(maps):
            for model, value in values.items():
                column = places.get(model)
                if column is not None:
                    chunk[row, column] = value
        return chunk
