"""Splits by content: stable, disjoint by text, of the size asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from routeiq.training.errors import DataError
from routeiq.training.splits import (
    assign,
    folds,
    normalise,
    split_of,
    split_table,
    text_groups,
    text_hash,
    uniform,
)

from .test_table import table

MANY = text_groups(f"question {i}" for i in range(20_000))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  2+2?\n", "what is 2+2?"),
        ("STRASSE", "straße".upper()),
        ("\uff21\uff22", "ab"),  # full-width letters
        ("\u00fcber", "u\u0308ber"),
    ],
)
def test_texts_that_are_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)
    assert text_hash(one) == text_hash(other)


def test_texts_that_are_not_the_same() -> None:
    assert text_hash("What is 2+2?") != text_hash("What is 2+3?")


def test_hashes_are_the_same_on_every_machine() -> None:
    assert text_hash("Why?") == 0xE33AF57D4B87D753
    assert split_of("Why?") == "train"


def test_the_shares_are_those_asked_for() -> None:
    sides = assign(MANY, shares=(0.6, 0.15, 0.25))
    found = np.bincount(sides, minlength=3) / len(MANY)
    np.testing.assert_allclose(found, (0.6, 0.15, 0.25), atol=0.015)  # 4 standard errors


def test_a_share_can_be_nothing() -> None:
    assert set(assign(MANY, shares=(0.7, 0.0, 0.3)).tolist()) == {0, 2}
    assert set(assign(MANY, shares=(1.0, 0.0, 0.0)).tolist()) == {0}


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.1), (1.2, -0.2, 0.0)])
def test_shares_must_be_shares(shares: tuple[float, float, float]) -> None:
    with pytest.raises(DataError, match="must sum to 1"):
        assign(MANY, shares=shares)


def test_the_split_of_a_text_does_not_depend_on_the_others() -> None:
    sides = assign(MANY)
    assert sides[7] == ("train", "validation", "test").index(split_of(" QUESTION  7"))
    np.testing.assert_array_equal(assign(MANY[::-1]), sides[::-1])


def test_another_seed_is_another_split() -> None:
    one, other = uniform(MANY, seed=0), uniform(MANY, seed=1)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert one.min() >= 0
    assert one.max() < 1


def test_tables_are_split_by_text() -> None:
    whole = replace(table(), groups=text_groups(["Why?", "When?", "WHY?"]))
    seen = {
        tuple(len(part) for part in split_table(whole, shares=(0.5, 0.0, 0.5), seed=seed))
        for seed in range(20)
    }
    assert seen == {(3, 0, 0), (2, 0, 1), (1, 0, 2), (0, 0, 3)}
    for seed in range(20):
        parts = split_table(whole, shares=(0.5, 0.0, 0.5), seed=seed)
        assert sum(bool({"a", "c"} & set(part.ids)) for part in parts) == 1


def test_folds_are_even_and_independent_of_the_split() -> None:
    found = folds(MANY, 5)
    assert np.bincount(found).tolist() == pytest.approx([4000] * 5, rel=0.06)
    train = folds(MANY[assign(MANY) == 0], 5)
    assert np.bincount(train).min() / len(train) == pytest.approx(0.2, rel=0.06)
    assert (folds(MANY, 5, seed=1) == found).mean() == pytest.approx(0.2, abs=0.02)


def test_one_fold_is_no_cross_validation() -> None:
    with pytest.raises(DataError, match="at least 2 folds, not 1"):
        folds(MANY, 1)
