"""Folds by the hash of a row's id: the same rows always fall into the same folds, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
Predict = Callable[[Matrix], Matrix]
CHUNK = 16_384
"""Rows predicted at a time: bounds the temporaries of an estimator over a million rows."""


def hashes(ids: Sequence[str], seed: int = 0) -> npt.NDArray[np.uint64]:
    """A 64-bit hash per id; another seed gives an independent order."""
    salt = f"{seed}\0".encode()
    digests = b"".join(
        hashlib.blake2b(salt + one.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for one in ids
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def fold_of(ids: Sequence[str], folds: int = 5, *, seed: int = 0) -> Index:
    """The fold (0 .. folds - 1) of each row. Sizes differ by one distinct id at most; equal ids stay together.

    Args:
        ids: one per row.
        folds: how many; fewer come out where there are fewer distinct ids.
        seed: another one deals differently.

    Raises:
        ValueError: fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds: cross-fitting needs at least 2.")
    _, rank = np.unique(hashes(ids, seed), return_inverse=True)
    return np.asarray(rank, dtype=np.int64) % folds


def splits(fold: Index) -> Iterator[tuple[Index, Index]]:
    """(rows to fit on, rows to predict) of each fold, without one that would leave nothing to fit on."""
    for one in np.unique(fold):
        held = fold == one
        if not held.all():
            yield np.flatnonzero(~held), np.flatnonzero(held)


def subsample(ids: Sequence[str], limit: int, *, seed: int = 0) -> Index:
    """At most `limit` rows, the same ones every time, in their order."""
    if len(ids) <= limit:
        return np.arange(len(ids))
    chosen = np.argpartition(hashes(ids, seed), limit)[:limit]
    return np.sort(chosen)


def in_chunks(predict: Predict, x: Matrix, chunk: int = CHUNK) -> Matrix:
    """`predict` over all rows, a chunk at a time."""
    if len(x) <= chunk:
        return predict(x)
    return np.concatenate([predict(x[i : i + chunk]) for i in range(0, len(x), chunk)])


def out_of_fold(fit: Callable[[Index], Predict], x: Matrix, fold: Index, width: int) -> Matrix:
    """What each row gets from a fit that never saw it; NaN where no fold could be left out.

    Args:
        fit: takes the rows to fit on, gives a predictor.
        x: features (n, d).
        fold: the fold of each row.
        width: columns of a prediction.
    """
    out = np.full((len(x), width), np.nan, dtype=np.float32)
    for kept, held in splits(fold):
        out[held] = in_chunks(fit(kept), x[held])
    return out
