from __future__ import annotations

import pytest

from routeiq.exceptions import InvalidRequest
from routeiq.gateway.query import whole_number


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("007", 7), ("1000", 1000)])
def test_a_whole_number(text: str, number: int) -> None:
    assert whole_number("limit", text, 1000) == number


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.0", "x", "²", "1001", "000000005999", "0" * 19 + "1", "9" * 5000]
)
def test_what_is_none_or_too_large_is_told_with_its_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="limit must be 1 to 1000") as raised:
        whole_number("limit", text, 1000)
    assert raised.value.param == "limit"
