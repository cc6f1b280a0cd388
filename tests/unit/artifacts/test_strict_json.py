from __future__ import annotations

import pytest

from routeiq.artifacts import strict_json


def test_plain_json_is_read() -> None:
    assert strict_json.loads(b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}') == {
        "a": [1, 2.5, None, True, "é"]
    }


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"a": 1, "a": 1}', "'a' stands twice"),
        (b'{"x": {"a": 1, "a": 2}}', "stands twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[" * 100_000, "deeply"),
        (b"\xff", "utf-8"),
        (b"{", "Expecting"),
        (b"9" * 5000, "digits"),
    ],
)
def test_what_readers_would_differ_about_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strict_json.loads(raw)
