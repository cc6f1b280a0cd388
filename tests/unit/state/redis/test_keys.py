"""The one table of keys: every key of ours is in it, and the page says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from routeiq.state.redis import keys

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "redis-keys.md"
MADE = [
    keys.limit("<tenant>", "window", "<bucket>"),
    keys.limit("<tenant>", "period", "<bucket>"),
    keys.limit("<tenant>", "slots", "<bucket>"),
    keys.limit_held("<tenant>", "<worker>"),
    keys.limit_seq("<tenant>", "<worker>"),
    keys.counters("<name>"),
    keys.counters_seq("<name>", "<worker>"),
    keys.breaker("<breaker>"),
    keys.BOARD,
    keys.probe("<breaker>"),
    keys.affinity("<conversation>"),
    keys.lease("<name>"),
    keys.lease_token("<name>"),
    keys.PING,
]


def test_the_table_has_exactly_the_keys_that_are_made() -> None:
    assert [row.pattern for row in keys.TABLE] == MADE


@pytest.mark.parametrize("row", keys.TABLE, ids=lambda row: row.pattern)
def test_every_key_has_a_lifetime_or_a_reason(row: keys.Key) -> None:
    assert not row.lifetime.startswith("none") or re.match(r"none: .{20}", row.lifetime)


def test_the_page_shows_the_table() -> None:
    rows = [
        f"| `{row.pattern}` | {row.type} | {row.lifetime} | {row.holds} |" for row in keys.TABLE
    ]
    shown = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert shown == rows
