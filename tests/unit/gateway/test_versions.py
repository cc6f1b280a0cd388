from __future__ import annotations

import pytest

from routeiq.exceptions import Conflict, InvalidRequest, PreconditionFailed
from routeiq.gateway.versions import as_precondition, etag, expected_version


def scope(value: bytes | None) -> dict[str, object]:
    return {"headers": [] if value is None else [(b"if-match", value)]}


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (None, None),
        (b"*", None),
        (b" * ", None),
        (b'"3"', 3),
        (b"3", 3),
        (b'W/"3"', 3),
        (b'"0"', 0),
    ],
)
def test_the_version_that_the_caller_saw(value: bytes | None, version: int | None) -> None:
    assert expected_version(scope(value)) == version


@pytest.mark.parametrize(
    "value", [b"", b'""', b"x", b'"-1"', b'"1", "2"', b"9" * 19, "²".encode(), b'"1.0"']
)
def test_what_is_no_version_of_ours(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        expected_version(scope(value))
    assert raised.value.param == "if-match"


def test_an_etag_comes_back_as_it_was_given() -> None:
    assert expected_version(scope(etag(12)[1])) == 12


def test_a_conflict_is_412_for_who_asked_for_a_version() -> None:
    error = Conflict("somebody was faster")
    assert as_precondition(error, None) is error
    found = as_precondition(error, 0)
    assert isinstance(found, PreconditionFailed)
    assert (found.status, found.message) == (412, "somebody was faster")
