"""Splits by content: the same text always falls on the same side, in whatever file it stands.

A row's group is a 64-bit hash of its normalised text (`text_hash`). Splits and folds are functions of the
group and a seed alone, so they are the same on every machine, do not depend on the order of rows, and new rows
never move old ones. Near duplicates can still fall on both sides: `deduplication.leakage` finds them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .table import Table

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, Split, Split] = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
Groups = npt.NDArray[np.uint64]


def normalise(text: str) -> str:
    """The text without differences of case, width (NFKC) and white space."""
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_hash(text: str) -> int:
    """64 bits of BLAKE2b over the normalised text."""
    data = normalise(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def text_groups(texts: Iterable[str]) -> Groups:
    """The group of every text, (n,)."""
    return np.fromiter((text_hash(text) for text in texts), dtype=np.uint64)


def uniform(groups: Groups, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """One number in [0, 1) per group, independent between seeds.

    The finaliser is SplitMix64's (Steele, Lea, Flood, OOPSLA 2014).
    """
    step = np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
    with np.errstate(over="ignore"):
        mixed = groups + step
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def assign(
    groups: Groups, *, shares: tuple[float, float, float] = SHARES, seed: int = 0
) -> npt.NDArray[np.int8]:
    """0 (train), 1 (validation) or 2 (test) for every row, (n,).

    Raises:
        DataError: the shares are negative or do not sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise DataError(f"the shares of train, validation and test must sum to 1, not {shares!r}")
    edges = np.cumsum(shares)[:2]
    return np.searchsorted(edges, uniform(groups, seed=seed), side="right").astype(np.int8)


def split_of(text: str, *, shares: tuple[float, float, float] = SHARES, seed: int = 0) -> Split:
    """On which side one text falls."""
    return SPLITS[int(assign(text_groups([text]), shares=shares, seed=seed)[0])]


def split_table(
    table: Table, *, shares: tuple[float, float, float] = SHARES, seed: int = 0
) -> tuple[Table, Table, Table]:
    """The table's train, validation and test rows; sides may be empty."""
    sides = assign(table.groups, shares=shares, seed=seed)
    train, validation, test = (table.take(sides == side) for side in range(3))
    return train, validation, test


def folds(groups: Groups, count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """The fold of every row, 0 to `count` - 1, (n,); equal texts share a fold.

    Folds are equal in expectation only: with n rows a fold has n / count give or take sqrt(n / count).

    Raises:
        DataError: fewer than two folds.
    """
    if count < 2:
        raise DataError(f"cross-validation needs at least 2 folds, not {count}")
    # The seed is shifted so that folds within a split do not depend on how the split was drawn.
    return (uniform(groups, seed=seed + 7919) * count).astype(np.int64)
