"""What estimators are fitted on: features and outcomes as matrices, missing entries as NaN."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


def _none() -> npt.NDArray[np.uint64]:
    return np.empty(0, dtype=np.uint64)


def _by_id(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    hashes = (blake2b(id.encode("utf-8", "replace"), digest_size=8).digest() for id in ids)
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """n prompts, M models, d features.

    `features` (n, d); `scores` (n, M) in [0, 1]; `costs` (n, M) in USD; `latencies` (n, M) in seconds;
    `output_tokens` (n, M). NaN where nobody measured. `weights` (n,) are row weights. `preferences` (p, 4)
    holds row, model a, model b and the share of the win that goes to a (1, 0.5 or 0). `prior` (n,) is the
    difficulty that the untrained `prior` strategy sees. `digest` is the sha256 of the canonical rows. `groups`
    (n,) are 64-bit hashes of the normalised texts: rows of one group must not be split (`training/splits.py`).
    Where they are not given, every row is a group of its own, by its id.
    """

    ids: tuple[str, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    features: Matrix
    fingerprint: str
    scores: Matrix
    costs: Matrix
    latencies: Matrix
    output_tokens: Matrix
    weights: Matrix
    preferences: Matrix
    prior: Matrix
    digest: str = ""
    texts: tuple[str, ...] | None = None
    groups: npt.NDArray[np.uint64] = field(default_factory=_none)

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.ids):
            object.__setattr__(self, "groups", _by_id(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[Any]) -> Table:
        """The rows with these indexes (or where this mask holds), in order."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        index = rows.tolist()
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows] = np.arange(len(index))
        kept = self.preferences[place[self.preferences[:, 0].astype(np.int64)] >= 0].copy()
        kept[:, 0] = place[kept[:, 0].astype(np.int64)]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in index),
            tasks=tuple(self.tasks[i] for i in index),
            texts=None if self.texts is None else tuple(self.texts[i] for i in index),
            preferences=kept,
            **{
                name: getattr(self, name)[rows]
                for name in (
                    "features",
                    "scores",
                    "costs",
                    "latencies",
                    "output_tokens",
                    "weights",
                    "prior",
                    "groups",
                )
            },
        )
