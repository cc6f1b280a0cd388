from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.routing.tokens import text_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("漢字", 2),  # two characters of three bytes
        ("Привет", 4),  # six characters of two bytes
        ("aaaa漢", 2),
        ("\U0001f600", 2),
        ("\ud800", 1),  # a lone surrogate is bad text, not an error of ours
    ],
)
def test_tokens_follow_the_documented_rule(text: str, tokens: int) -> None:
    assert text_tokens(text) == tokens


@given(st.text(max_size=200))
def test_longer_text_never_has_fewer_tokens(text: str) -> None:
    assert text_tokens(text) <= text_tokens(text + "é") <= text_tokens(text + "é漢")


def test_long_mixed_text_is_sampled_within_a_percent_of_counting() -> None:
    piece = "plain words и слова 漢字 "
    assert text_tokens(piece * 10_000) == pytest.approx(10_000 * text_tokens(piece), rel=0.06)
