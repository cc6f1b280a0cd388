from __future__ import annotations

import pytest

from routeiq.strategies.reliability import MODELS, RECOVERY, SMOOTHING, Reliability


def test_unknown_and_faultless_models_are_reliable() -> None:
    books = Reliability()
    books.add("m", answered=True)
    assert books.share("m") == books.share("other") == 1.0
    assert books.report() == {}


def test_a_failure_counts_by_hand_and_is_forgotten_with_the_calls_of_others() -> None:
    books = Reliability()
    books.add("m", answered=False)
    assert books.share("m") == pytest.approx(1.0 - SMOOTHING)
    for _ in range(int(RECOVERY)):
        books.add("other", answered=True)
    assert books.share("m") == pytest.approx(1.0 - SMOOTHING / 2.718281828, rel=1e-6)


def test_every_third_call_failing_is_found() -> None:
    books = Reliability()
    for number in range(600):
        books.add("m", answered=number % 3 != 0)
    assert books.share("m") == pytest.approx(0.67, abs=0.08)


def test_models_are_bounded() -> None:
    books = Reliability()
    for number in range(MODELS + 1):
        books.add(str(number), answered=False)
    assert len(books.report()) == MODELS
    assert books.share("0") == 1.0


def test_state_survives_a_restart_and_nonsense_is_refused() -> None:
    books = Reliability()
    books.add("m", answered=False)
    again = Reliability()
    again.restore(books.snapshot())
    assert again.share("m") == books.share("m")
    with pytest.raises(ValueError, match="shares of lost calls"):
        again.restore({"m": 1.5})
    assert again.share("m") == books.share("m")
