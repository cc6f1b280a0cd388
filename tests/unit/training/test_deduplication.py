"""Duplicates: exact and near, within a set and between two, and the merging of tables."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from routeiq.training.deduplication import (
    PERMUTATIONS,
    leakage,
    merge_duplicates,
    repeated,
    signatures,
)
from routeiq.training.splits import text_groups

from .test_table import table

WORDS = [f"word{i}" for i in range(2000)]


def sentence(seed: int, words: int = 60) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def test_exact_and_near_duplicates_between_sets() -> None:
    base = sentence(1)
    near = " ".join(
        [*base[:30], "changed", *base[31:]]
    )  # 3 of 58 triples differ on each side: 55/61
    train = signatures([" ".join(sentence(i)) for i in (5, 1, 6)])
    test = signatures([" ".join(base).upper(), near, " ".join(sentence(9)), ""])
    found = leakage(train, test)
    assert found.exact.tolist() == [[0, 1]]
    assert found.near.tolist() == [[1, 1]]
    assert found.similarity[0] == pytest.approx(55 / 61, abs=0.1)
    assert (found.train_rows, found.test_rows, found.share) == (3, 4, 0.5)


def test_nothing_leaks_between_different_texts() -> None:
    train = signatures(" ".join(sentence(i)) for i in range(300))
    test = signatures(" ".join(sentence(i)) for i in range(300, 600))
    found = leakage(train, test)
    assert (len(found.exact), len(found.near), found.share) == (0, 0, 0.0)


def test_empty_sets_leak_nothing() -> None:
    none, some = signatures([]), signatures(["Why?"])
    assert leakage(none, some).share == 0
    assert leakage(some, none).share == 0
    assert leakage(some, some).exact.tolist() == [[0, 0]]


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95])
def test_signatures_estimate_the_jaccard_similarity(similarity: float) -> None:
    errors = []
    for seed in range(20):
        total = 400  # words, each its own: n - 2 triples
        kept = round(2 * similarity / (1 + similarity) * total)
        base = [f"{seed}a{i}" for i in range(total)]
        other = base[:kept] + [f"{seed}b{i}" for i in range(total - kept)]
        both, either = kept - 2, 2 * (total - 2) - (kept - 2)
        found = signatures([" ".join(base), " ".join(other)]).hashes
        errors.append(float(np.mean(found[0] == found[1])) - both / either)
    assert abs(np.mean(errors)) < 0.03
    assert np.std(errors) < 0.08


def test_near_duplicates_are_found_nearly_always() -> None:
    texts = []
    for seed in range(100):
        base = sentence(seed, 80)
        texts += [" ".join(base), " ".join([*base[:40], "x", *base[41:]])]
    found = repeated(signatures(texts), similar=0.75)
    assert not found[::2].any()
    assert found[1::2].sum() >= 98


def test_texts_without_spaces_are_compared_by_characters() -> None:
    text = "机器学习是人工智能的一个分支它使计算机能够从数据中学习而无需明确编程" * 3
    found = leakage(signatures([text]), signatures([text[:-1], "今天天气很好我们去公园散步吧"]))
    assert found.near.tolist() == [[0, 0]]


def test_repeated_rows_keep_the_first() -> None:
    rows = signatures(["Why?", "When?", "why?", "Why?"])
    assert repeated(rows).tolist() == [False, False, True, True]
    assert rows.hashes.shape == (4, PERMUTATIONS)
    np.testing.assert_array_equal(rows.hashes[0], rows.hashes[2])


def test_crowds_of_boilerplate_stay_cheap() -> None:
    same = [f"{' '.join(sentence(1, 200))} {i}" for i in range(300)]
    found = repeated(signatures(same), similar=0.8)
    assert found.sum() >= 60


def test_merging_averages_outcomes_and_fills_holes() -> None:
    whole = replace(table(), groups=text_groups(["Why?", "When?", "WHY?"]))
    merged = merge_duplicates(whole)
    assert merged.ids == ("a", "b")
    # rows a and c: scores (1, 0) and (0.5, 0.25); costs (1, 2) and (5, 6)
    assert merged.scores[0].tolist() == [0.75, 0.125]
    assert merged.costs[0].tolist() == [3, 4]
    np.testing.assert_array_equal(merged.scores[1], np.array([np.nan, 1], dtype=np.float32))
    assert merged.weights.tolist() == [4, 2]
    assert merged.preferences.tolist() == [[0, 0, 1, 1], [0, 1, 0, 0.5]]


def test_merging_keeps_a_table_without_duplicates() -> None:
    whole = table()
    assert merge_duplicates(whole) is whole
