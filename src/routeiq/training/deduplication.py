"""Duplicates within and between data sets: exact after normalisation, and near by word shingles.

Near duplicates are found by MinHash (Broder, 1997) over shingles of three words, with banding (Leskovec,
Rajaraman, Ullman: Mining of Massive Datasets, ch. 3): `BANDS` bands of `BAND_ROWS` hashes find a pair of
Jaccard similarity 0.8 with probability 1 - (1 - 0.8^6)^20 = 0.998. The similarity of a pair is estimated from
its signatures, with a standard error of at most 0.046. Memory is 488 bytes per text; crowded buckets
(boilerplate) are looked at in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import numpy.typing as npt

from .splits import Groups, normalise, text_hash
from .table import Matrix, Table

SHINGLE = 3
BANDS, BAND_ROWS = 20, 6
PERMUTATIONS = BANDS * BAND_ROWS
LONGEST = 4096
"""Words of a text that are looked at."""
CHARACTERS = 12
"""Characters per word above which a text is taken to be written without spaces: shingles of characters then."""
CROWD = 64
"""Members of a bucket that are compared with each other."""
SIMILAR = 0.8
_MIXERS = np.array(
    [pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, BAND_ROWS + 1)], dtype=np.uint64
)
Hashes = npt.NDArray[np.uint32]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Of n texts: the `groups` (n,) that normalised texts share, and MinHash `hashes` (n, PERMUTATIONS)."""

    groups: Groups
    hashes: Hashes

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leakage:
    """Test rows whose text is in the training data. Pairs are (test row, train row); similarities from 0 to 1."""

    train_rows: int
    test_rows: int
    exact: Pairs
    near: Pairs
    similarity: npt.NDArray[np.float64]

    @property
    def share(self) -> float:
        """Share of test rows that leaked, exactly or nearly."""
        leaked = np.union1d(self.exact[:, 0], self.near[:, 0])
        return len(leaked) / self.test_rows if self.test_rows else 0.0


def signatures(texts: Iterable[str]) -> Signatures:
    """Hash texts; keeps none of them."""
    hasher = _Hasher()
    groups: list[int] = []
    chunks: list[Hashes] = []
    for text in texts:
        groups.append(text_hash(text))
        chunks.append(hasher.signature(text))
    hashes = np.array(chunks, dtype=np.uint32).reshape(-1, PERMUTATIONS)
    return Signatures(groups=np.array(groups, dtype=np.uint64), hashes=hashes)


def leakage(train: Signatures, test: Signatures, *, similar: float = SIMILAR) -> Leakage:
    """Which test rows are in the training data, exactly or nearly; for each the most similar training row."""
    order = np.argsort(train.groups, kind="stable")
    known = train.groups[order]
    place = np.searchsorted(known, test.groups)
    place[place == len(known)] = 0
    hit = known[place] == test.groups if len(known) else np.zeros(len(test), dtype=bool)
    exact = np.column_stack([np.flatnonzero(hit), order[place[hit]]]).astype(np.int64)
    best: dict[int, tuple[float, int]] = {}
    count = len(train)
    both = np.concatenate([train.hashes, test.hashes])
    for one, other in _candidates(both, split=count):
        row = other - count
        if not hit[row]:
            similarity = _similarity(both, one, other)
            if similarity >= similar:
                best[row] = max(best.get(row, (0.0, 0)), (similarity, one))
    near = sorted((row, one, similarity) for row, (similarity, one) in best.items())
    return Leakage(
        train_rows=count,
        test_rows=len(test),
        exact=exact,
        near=np.array([pair[:2] for pair in near], dtype=np.int64).reshape(-1, 2),
        similarity=np.array([pair[2] for pair in near], dtype=np.float64),
    )


def repeated(rows: Signatures, *, similar: float | None = None) -> npt.NDArray[np.bool_]:
    """Which rows repeat an earlier one, (n,): exactly, or where `similar` is given also nearly."""
    _, first = np.unique(rows.groups, return_index=True)
    again = np.ones(len(rows), dtype=bool)
    again[first] = False
    if similar is not None:
        for one, other in _candidates(rows.hashes):
            if not again[one] and not again[other]:
                again[other] = _similarity(rows.hashes, one, other) >= similar
    return again


def merge_duplicates(table: Table) -> Table:
    """One row per text: outcomes of repeated texts are averaged model by model, missing ones filled.

    So two data sets that asked different models the same question become one row with all of them. Weights add up.
    """
    _, first, inverse = np.unique(table.groups, return_index=True, return_inverse=True)
    if len(first) == len(table):
        return table
    rank = np.empty(len(first), dtype=np.int64)
    order = np.argsort(first)
    rank[order] = np.arange(len(first))
    target = rank[inverse.reshape(-1)]
    merged = table.take(first[order])
    preferences = table.preferences.copy()
    preferences[:, 0] = target[table.preferences[:, 0].astype(np.int64)]
    weights = np.bincount(target, weights=table.weights).astype(np.float32)
    return replace(
        merged,
        scores=_means(table.scores, target, len(first)),
        costs=_means(table.costs, target, len(first)),
        latencies=_means(table.latencies, target, len(first)),
        output_tokens=_means(table.output_tokens, target, len(first)),
        preferences=preferences,
        weights=weights,
    )


def _means(values: Matrix, target: npt.NDArray[np.int64], rows: int) -> Matrix:
    means = np.full((rows, values.shape[1]), np.nan, dtype=np.float32)
    for column in range(values.shape[1]):
        known = ~np.isnan(values[:, column])
        counts = np.bincount(target[known], minlength=rows)
        sums = np.bincount(target[known], weights=values[known, column], minlength=rows)
        there = counts > 0
        means[there, column] = sums[there] / counts[there]
    return means


class _Hasher:
    """Multiply-shift hashing (Dietzfelbinger et al., 1997) with fixed multipliers."""

    def __init__(self) -> None:
        random = np.random.default_rng(20010)
        self._factors = random.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) * 2 + 1
        self._shifts = random.integers(0, 2**63, PERMUTATIONS, dtype=np.uint64)

    def signature(self, text: str) -> Hashes:
        """The least hash of all shingles, per permutation, (PERMUTATIONS,)."""
        shingles = np.fromiter(_shingles(text), dtype=np.uint64)
        hashed = self._factors[:, None] * np.unique(shingles) + self._shifts[:, None]
        least: Hashes = (hashed >> np.uint64(32)).astype(np.uint32).min(axis=1)
        return least


def _shingles(text: str) -> Iterator[int]:
    text = normalise(text)
    words = text.split(" ", LONGEST)[:LONGEST]
    if len(text) > CHARACTERS * len(words):
        words = list(text[:LONGEST])
    for start in range(max(1, len(words) - SHINGLE + 1)):
        yield crc32(" ".join(words[start : start + SHINGLE]).encode("utf-8", "surrogatepass"))


def _candidates(hashes: Hashes, split: int | None = None) -> Iterator[tuple[int, int]]:
    """Pairs of rows that share a band, each once per band; with `split`, one row of each side of it."""
    for band in range(BANDS):
        part = hashes[:, band * BAND_ROWS : (band + 1) * BAND_ROWS].astype(np.uint64)
        keys = part @ _MIXERS  # sums of products wrap around: a hash of the band
        order = np.argsort(keys, kind="stable")
        _, counts = np.unique(keys, return_counts=True)
        ends = np.cumsum(counts)
        for bucket in np.flatnonzero(counts > 1):
            members = order[ends[bucket] - counts[bucket] : ends[bucket]]
            yield from _pairs(members, split)


def _pairs(members: npt.NDArray[np.int64], split: int | None) -> Iterator[tuple[int, int]]:
    if split is None:
        rows = members[:CROWD].tolist()
        yield from ((one, other) for i, one in enumerate(rows) for other in rows[i + 1 :])
        return
    left = members[members < split][:CROWD].tolist()
    yield from ((one, int(other)) for other in members[members >= split] for one in left)


def _similarity(hashes: Hashes, one: int, other: int) -> float:
    return float(np.mean(hashes[one] == hashes[other]))
