"""Checks of single records, and the collection of problems."""

from __future__ import annotations

import pytest

from routeiq.training.errors import DataError, MissingExtra, require
from routeiq.training.records import Preference, Record
from routeiq.training.validation import LONGEST_ID, Problems, Seen, check

GOOD = Record(id="a", text="Why?", scores={"m": 1.0, "n": 0.0}, costs={"m": 0.0})
BATTLE = {"id": "a", "text": "Why?", "model_a": "m", "model_b": "n", "winner": "a"}


def test_a_good_record_has_no_problem() -> None:
    assert check(GOOD) == []
    assert check(Preference(**BATTLE)) == []  # type: ignore[arg-type]


def test_live_traffic_may_lack_its_text_and_its_score() -> None:
    assert check(Record(id="a", text="", scores={}, chosen="m", propensities={"m": 1.0})) == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(id="a", text=" ", scores={"m": 1}), "the text is empty"),
        (Record(id="a", text="Why?", scores={}), "no model has a score"),
        (Record(id="a", text="Why?", scores={"m": float("nan")}), "from 0 to 1, not nan"),
        (
            Record(id="a", text="Why?", scores={"m": 1}, propensities={"m": 1.1}),
            "the propensity of 'm' must be from 0 to 1, not 1.1",
        ),
        (
            Record(id="a", text="Why?", scores={"m": 1}, latencies={"m": float("inf")}),
            "the latency of 'm' must be a finite number of at least 0, not inf",
        ),
        (
            Record(id="a", text="Why?", scores={"m": 1}, output_tokens={"m": -1}),
            "the number of output tokens of 'm' must be a finite number of at least 0",
        ),
        (Record(id="a" * (LONGEST_ID + 1), text="Why?", scores={"m": 1}), "the id is longer"),
        (Record(id="a", task="t" * 2000, text="Why?", scores={"m": 1}), "the task is longer"),
    ],
)
def test_bad_records(record: Record, message: str) -> None:
    assert any(message in one for one in check(record))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, "the text is empty"),
        ({"model_b": "m"}, "between 'm' and itself"),
        ({"weight": -1.0}, "the weight must be a number of at least 0, not -1.0"),
        ({"weight": float("nan")}, "not nan"),
    ],
)
def test_bad_preferences(changes: dict[str, object], message: str) -> None:
    assert message in check(Preference(**{**BATTLE, **changes}))[0]  # type: ignore[arg-type]


def test_problems_are_counted_and_the_first_are_kept() -> None:
    problems = Problems(shown=2, most=10)
    for row in range(5):
        problems.add("wrong", file="x.csv", row=row)
    assert [str(one) for one in problems] == ["x.csv:0: wrong", "x.csv:1: wrong"]
    with pytest.raises(DataError) as caught:
        problems.fail()
    assert (caught.value.total, len(caught.value.problems)) == (5, 2)
    assert str(caught.value).endswith("... 5 problems in all; the first 2 are shown.")


def test_too_many_problems_end_the_reading() -> None:
    problems = Problems(most=3)
    problems.add("wrong")
    problems.add("wrong", file="x.csv")
    with pytest.raises(DataError, match=r"wrong\nx.csv: wrong\nx.csv:1: wrong"):
        problems.add("wrong", file="x.csv", row=1)


def test_without_problems_nothing_is_raised() -> None:
    Problems().fail()


def test_seen_ids() -> None:
    seen = Seen()
    assert [seen.again(id) for id in ("a", "b", "a")] == [False, False, True]


def test_a_missing_extra_says_how_to_get_it() -> None:
    assert require("json", extra="train", purpose="This").dumps([]) == "[]"
    with pytest.raises(MissingExtra, match=r"Reading X needs nope_x.*routeiq-router\[train\]"):
        require("nope_x.inner", extra="train", purpose="Reading X")
