from __future__ import annotations

import pytest

from routeiq.simulator.behaviour import PLAIN, Behaviour, mended, parse
from routeiq.simulator.errors import ApiError


def test_nothing_is_plain() -> None:
    assert parse("", " ; ") is PLAIN


def test_values_have_the_type_of_their_field() -> None:
    found = parse("delay_ms=2.5; chunks=3 ;gzip=1;chunked=0;key=a;retry_after=0.5")
    expected = Behaviour(delay_ms=2.5, chunks=3, gzip=True, chunked=False, key="a", retry_after=0.5)
    assert found == expected


def test_a_bare_key_means_one() -> None:
    assert parse("hang;drip") == Behaviour(hang=True, drip=1.0)


def test_zero_turns_a_flag_off() -> None:
    assert parse("hang=0;keepalive=0") == Behaviour(keepalive=False)


def test_later_texts_win() -> None:
    assert parse("status=500;chunks=2", "status=429") == Behaviour(status=429, chunks=2)


@pytest.mark.parametrize("text", ["delay_ms=x", "chunks=-1", "status=nan", "cut=inf"])
def test_a_bad_value_names_its_key(text: str) -> None:
    with pytest.raises(ApiError, match=text.partition("=")[0]):
        parse(text)


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ApiError, match=r"'delay'.*delay_ms"):
        parse("delay=1")


def test_fail_first_means_500_unless_another_fault_is_given() -> None:
    assert parse("fail_first=2").status == 500
    assert parse("fail_first=2;status=429").status == 429
    assert parse("fail_first=2;reset").status is None
    assert parse("fail_first=0").status is None


def test_mended_keeps_what_is_no_fault() -> None:
    assert mended(parse("fail_first=1;status=500;chunks=4;cut=1")) == Behaviour(
        fail_first=1, chunks=4
    )
