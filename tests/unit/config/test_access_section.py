from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routeiq.config.access import Access, DeclaredKey, EntitySettings, RateLimits, SpendLimit

KEY = "application-key-secret"


def test_by_default_everything_is_allowed_and_nothing_limited() -> None:
    settings = EntitySettings()
    assert (settings.models, settings.profiles, settings.permissions) == (None, None, None)
    assert (settings.denied_models, settings.tags, settings.budgets) == ((), (), ())
    assert settings.limits == RateLimits()
    assert settings.limits.requests_per_minute is None
    assert settings.limits.fail == "open", "availability comes first"
    assert not settings.disabled


@pytest.mark.parametrize(
    "limits",
    [
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"concurrent_requests": 1.5},
        {"fail": "ajar"},
        {"requests_per_hour": 1},
    ],
)
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RateLimits.model_validate(limits)


@pytest.mark.parametrize(
    ("budget", "good"),
    [
        ({"usd": 0.01}, True),
        ({"tokens": 1, "per": "total"}, True),
        ({"usd": 5, "per": "week", "alert_at": [0.5], "fail": "closed"}, True),
        ({"usd": 5, "alert_at": []}, True),
        ({}, False),
        ({"usd": 1, "tokens": 1}, False),
        ({"usd": 0}, False),
        ({"usd": 1, "per": "hour"}, False),
        ({"usd": 1, "alert_at": [1.5]}, False),
    ],
)
def test_budgets(budget: dict[str, Any], good: bool) -> None:
    if good:
        made = SpendLimit.model_validate(budget)
        assert (made.per, made.fail) == (budget.get("per", "month"), budget.get("fail", "open"))
        assert made.alert_at == tuple(budget.get("alert_at", (0.8, 1.0)))
        return
    with pytest.raises(ValidationError):
        SpendLimit.model_validate(budget)


@pytest.mark.parametrize(
    ("permission", "good"),
    [
        ("*", True),
        ("keys.*", True),
        ("decisions.read", True),
        ("keys", False),
        ("*.read", False),
        ("Keys.read", False),
        ("keys.read.all", False),
        ("keys.read\n", False),
        ("", False),
    ],
)
def test_permissions(permission: str, good: bool) -> None:
    if good:
        assert EntitySettings(permissions=(permission,)).permissions == (permission,)
        return
    with pytest.raises(ValidationError):
        EntitySettings(permissions=(permission,))


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ({"key": KEY}, True),
        ({"key": "k" * 16, "user": "ann"}, True),
        ({"key": "k" * 15}, False),
        ({}, False),
        ({"key": KEY, "user": "ann", "team": "a"}, False),
        ({"key": KEY, "unknown": 1}, False),
    ],
)
def test_declared_keys(key: dict[str, Any], good: bool) -> None:
    if good:
        assert DeclaredKey.model_validate(key).key == key["key"]
        return
    with pytest.raises(ValidationError):
        DeclaredKey.model_validate(key)


def test_a_secret_is_in_no_repr() -> None:
    access = Access.model_validate({"keys": {"app": {"key": KEY}}})
    assert KEY not in repr(access)
    assert KEY not in str(access)


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValidationError):
        EntitySettings().disabled = True  # type: ignore[misc]
