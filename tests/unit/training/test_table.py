"""Taking rows of a table: everything follows, preferences point to the new rows."""

from __future__ import annotations

import numpy as np
import pytest

from routeiq.training.table import Table


def table() -> Table:
    def column(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.array(values, dtype=np.float32)

    return Table(
        ids=("a", "b", "c"),
        tasks=("x", "y", "x"),
        models=("m", "n"),
        features=np.arange(6, dtype=np.float32).reshape(3, 2),
        fingerprint="f",
        scores=column(1, 0, np.nan, 1, 0.5, 0.25).reshape(3, 2),
        costs=column(1, 2, 3, 4, 5, 6).reshape(3, 2),
        latencies=column(1, 2, 3, 4, 5, 6).reshape(3, 2),
        output_tokens=column(1, 2, 3, 4, 5, 6).reshape(3, 2),
        weights=column(1, 2, 3),
        preferences=column(0, 0, 1, 1, 2, 1, 0, 0.5).reshape(2, 4),
        prior=column(0.1, 0.2, 0.3),
        texts=("A", "B", "C"),
        groups=np.array([7, 8, 9], dtype=np.uint64),
    )


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_rows_are_taken_in_order(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    order = [2, 0] if rows.dtype != bool else [0, 2]
    whole = table()
    part = whole.take(rows)
    assert len(part) == 2
    assert part.ids == tuple(whole.ids[i] for i in order)
    assert part.texts == tuple("ABC"[i] for i in order)
    for name in ("features", "scores", "costs", "weights", "prior", "groups"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[order])


def test_preferences_follow_their_rows() -> None:
    part = table().take(np.array([2, 0]))
    assert part.preferences.tolist() == [[1, 0, 1, 1], [0, 1, 0, 0.5]]
    assert table().take(np.array([1])).preferences.tolist() == []


def test_without_groups_every_row_is_its_own() -> None:
    from dataclasses import replace

    one = replace(table(), groups=np.empty(0, dtype=np.uint64))
    assert len(set(one.groups.tolist())) == 3
    assert one.groups.tolist() == replace(one, groups=np.empty(0, dtype=np.uint64)).groups.tolist()
