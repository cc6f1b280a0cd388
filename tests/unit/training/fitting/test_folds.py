from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from routeiq.training.fitting.folds import (
    fold_of,
    hashes,
    in_chunks,
    out_of_fold,
    splits,
    subsample,
)

IDS = tuple(f"row-{i}" for i in range(103))


def test_folds_do_not_depend_on_the_order_of_rows() -> None:
    forward, backward = fold_of(IDS, 5), fold_of(IDS[::-1], 5)
    assert np.array_equal(forward, backward[::-1])


def test_folds_are_of_equal_size_and_all_used() -> None:
    assert sorted(np.bincount(fold_of(IDS, 5)).tolist()) == [20, 20, 21, 21, 21]


def test_another_seed_deals_differently() -> None:
    assert not np.array_equal(fold_of(IDS, 5), fold_of(IDS, 5, seed=1))


def test_equal_ids_fall_into_the_same_fold() -> None:
    fold = fold_of(IDS + IDS, 4)
    assert np.array_equal(fold[: len(IDS)], fold[len(IDS) :])


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fold_of(IDS, 1)


def test_hashes_are_pinned() -> None:
    # a changed hash would change every split: folds of stored artifacts could not be reproduced
    assert hashes(["a"], seed=0).tolist() == [PINNED]


PINNED = 15270482384145340437


def test_splits_hold_out_every_row_once() -> None:
    held = np.concatenate([out for _, out in splits(fold_of(IDS, 5))])
    assert sorted(held.tolist()) == list(range(len(IDS)))
    for kept, out in splits(fold_of(IDS, 5)):
        assert not set(kept.tolist()) & set(out.tolist())


def test_a_single_row_cannot_be_split() -> None:
    assert list(splits(fold_of(["only"], 5))) == []


def test_subsample_is_bounded_sorted_and_the_same_every_time() -> None:
    chosen = subsample(IDS, 10)
    assert len(chosen) == 10
    assert np.array_equal(chosen, np.sort(chosen))
    assert np.array_equal(chosen, subsample(IDS, 10))
    assert np.array_equal(subsample(IDS, 200), np.arange(103))


def test_out_of_fold_predictions_never_saw_their_row() -> None:
    x = np.arange(103, dtype=np.float32)[:, None]

    def fit(rows: npt.NDArray[np.int64]) -> object:
        seen = set(rows.tolist())
        return lambda held: np.array([[float(int(v) in seen)] for v in held[:, 0]], np.float32)

    out = out_of_fold(fit, x, fold_of(IDS, 5), 1)  # type: ignore[arg-type]
    assert np.array_equal(out, np.zeros((103, 1), np.float32))


def test_out_of_fold_of_a_single_row_is_missing() -> None:
    out = out_of_fold(lambda _: lambda x: x, np.ones((1, 2), np.float32), fold_of(["a"], 3), 2)
    assert np.isnan(out).all()


def test_chunks_give_the_same_as_one_go() -> None:
    x = np.arange(10, dtype=np.float32)[:, None]
    sizes = []

    def double(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        sizes.append(len(part))
        return 2 * part

    assert np.array_equal(in_chunks(double, x, chunk=4), 2 * x)
    assert sizes == [4, 4, 2]
