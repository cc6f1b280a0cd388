"""The canonical records are values: frozen, by keyword, with maps that may be empty."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from routeiq.training.records import Preference, Record


def test_what_is_not_known_is_empty() -> None:
    record = Record(id="a", text="Why?", scores={"m": 0.5})
    assert (record.costs, record.latencies, record.output_tokens, record.propensities) == (
        {},
        {},
        {},
        {},
    )
    assert (record.task, record.split, record.chosen) == ("", None, None)


def test_records_are_values() -> None:
    one = Preference(id="a", text="Why?", model_a="m", model_b="n", winner="tie")
    assert one == Preference(id="a", text="Why?", model_a="m", model_b="n", winner="tie", weight=1)
    with pytest.raises(FrozenInstanceError):
        one.winner = "a"  # type: ignore[misc]
