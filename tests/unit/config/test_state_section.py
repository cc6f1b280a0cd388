from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routeiq.config.section import RouteIQSection
from routeiq.config.state import Affinity, DecisionStore, State


def test_what_requests_wait_for_is_short_by_default() -> None:
    state = State()
    assert state.redis_timeout_s <= 0.25
    assert state.redis_connect_timeout_s <= 1.0
    assert state.reread_s <= 5.0
    assert state.flush_s <= 0.1


def test_prompts_are_not_kept_by_default() -> None:
    decisions = DecisionStore()
    assert decisions.store
    assert decisions.features == "summary"
    assert not decisions.text
    assert decisions.audit_retention_days is None, "who did what is kept until somebody says else"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (State, {"redis_timeout_s": 0}),
        (State, {"redis_pool_size": 0}),
        (State, {"database_timeout_s": -1}),
        (State, {"lease_s": 0.5}),
        (State, {"reread_s": 0}),
        (State, {"flush_s": 0}),
        (State, {"key_cache_size": 0}),
        (State, {"key_grace_s": -1}),
        (State, {"redis_url": "redis://h"}),
        (Affinity, {"ttl_s": 0}),
        (Affinity, {"size": 0}),
        (DecisionStore, {"queue": 0}),
        (DecisionStore, {"retention_days": 0}),
        (DecisionStore, {"audit_retention_days": 0}),
        (DecisionStore, {"features": "all"}),
    ],
)
def test_what_cannot_be_meant(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [(State, {"key_grace_s": 0}), (State, {"lease_s": 1}), (Affinity, {"enabled": False})],
)
def test_edges(kind: Any, values: dict[str, Any]) -> None:
    made = kind.model_validate(values)
    assert {name: getattr(made, name) for name in values} == values


def test_they_are_parts_of_the_section() -> None:
    section = RouteIQSection.model_validate(
        {"state": {"reread_s": 1}, "affinity": {"size": 7}, "decisions": {"queue": 9}}
    )
    assert (section.state.reread_s, section.affinity.size, section.decisions.queue) == (1.0, 7, 9)
