from __future__ import annotations

import pytest

from routeiq.gateway.middleware.request_id import request_id


@pytest.mark.parametrize("given", [b"abc", b"a" * 128, b"!#$~"])
def test_usable_id_is_kept(given: bytes) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize(
    "given", [None, b"", b"a" * 129, b"a b", b"a\r\nset-cookie: x", b"\xc3\xa9", b"\x7f"]
)
def test_anything_else_is_replaced(given: bytes | None) -> None:
    made = request_id(given)
    assert made != given
    assert made.startswith(b"req_")
    assert request_id(made) == made


def test_made_ids_differ() -> None:
    assert len({request_id(None) for _ in range(1000)}) == 1000
