from __future__ import annotations

from itertools import pairwise

import pytest

from routeiq.config.experiments import SubjectKind
from routeiq.experiments.assignment import Chooser, Hash, subject_of
from tests.unit.experiments.helpers import asked

SUBJECTS = [f"key\0k{n}".encode() for n in range(8_000)]


def chosen(weights: dict[str, float], salt: str = "e") -> list[str]:
    return [*map(Chooser(salt, weights), SUBJECTS)]


def test_a_hash_is_the_same_in_every_process_and_release() -> None:
    # From `printf 'variant\0e\0a\0key\0k1' | b2sum -l 64`. Another value would move every subject of every
    # running experiment.
    assert Hash("variant", "e", "a")(b"key\0k1") == 9398386037736782283
    assert Hash("variant", "e", "a").fraction(b"key\0k1") == pytest.approx(
        9398386037736782283 / 2**64
    )


def test_purposes_are_told_apart() -> None:
    assert Hash("a", "bc")(b"x") != Hash("ab", "c")(b"x")
    assert Hash("layer", "x")(b"s") != Hash("traffic", "x")(b"s")


def test_fractions_are_uniform() -> None:
    hashed = Hash("traffic", "e")
    cells = [0] * 20
    for subject in SUBJECTS:
        cells[int(hashed.fraction(subject) * 20)] += 1
    expected = len(SUBJECTS) / 20
    assert sum((n - expected) ** 2 / expected for n in cells) < 44  # chi-squared, 19, p = 0.001


@pytest.mark.parametrize(
    "weights", [{"a": 1.0, "b": 1.0}, {"a": 90, "b": 10}, {"a": 5, "b": 3, "c": 1, "d": 1}]
)
def test_shares_are_the_weights(weights: dict[str, float]) -> None:
    got, n = chosen(weights), len(SUBJECTS)
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(got.count(name) - n * share) < 4 * (n * share * (1 - share)) ** 0.5


def test_it_is_sticky_whatever_the_order_of_the_variants() -> None:
    assert chosen({"a": 2, "b": 1, "c": 1}) == chosen({"c": 1, "a": 2, "b": 1})


def test_experiments_are_independent_of_each_other() -> None:
    together = sum(x == y for x, y in zip(chosen(AB), chosen(AB, "f"), strict=True))
    assert abs(together - len(SUBJECTS) / 2) < 4 * (len(SUBJECTS) / 4) ** 0.5


AB = {"a": 50.0, "b": 50.0}


def moves(old: dict[str, float], new: dict[str, float]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for x, y in zip(chosen(old), chosen(new), strict=True):
        if x != y:
            found[x, y] = found.get((x, y), 0) + 1
    return found


def test_of_50_50_that_becomes_60_40_one_in_ten_moves_and_only_one_way() -> None:
    moved = moves(AB, {"a": 60, "b": 40})
    assert set(moved) == {("b", "a")}
    n = len(SUBJECTS)
    assert abs(moved["b", "a"] - n * 0.1) < 4 * (n * 0.1 * 0.9) ** 0.5


def test_with_one_weight_changed_of_three_nobody_else_moves() -> None:
    old = {"a": 1.0, "b": 1.0, "c": 2.0}
    assert set(moves(old, {**old, "c": 3.0})) == {("a", "c"), ("b", "c")}
    assert set(moves(old, {**old, "a": 0.0})) == {("a", "b"), ("a", "c")}
    assert set(moves(old, {**old, "d": 1.0})) == {("a", "d"), ("b", "d"), ("c", "d")}


def test_only_the_proportions_count() -> None:
    assert moves({"a": 1, "b": 3}, {"a": 25, "b": 75}) == {}


def test_growing_step_by_step_nobody_goes_back() -> None:
    steps = [chosen({"new": share, "old": 1 - share}) for share in (0.01, 0.1, 0.3, 1.0)]
    for before, after in pairwise(steps):
        assert all(y == "new" for x, y in zip(before, after, strict=True) if x == "new")


def test_a_variant_without_weight_gets_nobody() -> None:
    assert set(chosen({"a": 1.0, "b": 0.0})) == {"a"}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("key", "user"), ("key", "k")),
        (("user", "key"), ("user", "u")),
        (("team",), ("team", "t")),
        (("session",), ("session", "k\0s")),
        (("request",), ("request", "r")),
    ],
)
def test_the_subject_is_the_first_kind_that_the_request_has(
    kinds: tuple[SubjectKind, ...], expected: tuple[str, str]
) -> None:
    assert subject_of(kinds, asked(session_id="s"), "k", "u", "t") == expected


def test_a_kind_that_is_missing_gives_way_to_the_next() -> None:
    kinds: tuple[SubjectKind, ...] = ("key", "user", "session", "request")
    assert subject_of(kinds, asked(), None, None, "t") == ("request", "r")
    assert subject_of(kinds, asked(session_id="s"), None, None, None) == ("session", "\0s")
    assert subject_of(("key", "team"), asked(), None, None, None) is None


def test_sessions_of_two_callers_are_two_even_if_they_have_one_name() -> None:
    one = subject_of(("session",), asked(session_id="1", caller="x"), None, None, None)
    assert one != subject_of(("session",), asked(session_id="1", caller="y"), None, None, None)
