from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.access.inheritance import Level, Resolved, resolve
from routeiq.access.principal import Rule
from routeiq.config.access import EntitySettings
from routeiq.stores import EntityKind

NAMES = ("gpt-5", "gpt-5-mini", "claude", "llama")
GLOBS = st.sampled_from(["*", "gpt-*", "gpt-5", "claude", "none"])
MODELS = st.none() | st.lists(GLOBS, max_size=3).map(tuple)
SETTINGS = st.builds(
    EntitySettings,
    models=MODELS,
    denied_models=st.lists(GLOBS.filter(lambda glob: glob != "*"), max_size=2).map(tuple),
    tags=st.lists(st.sampled_from("abc"), max_size=2).map(tuple),
    may_hint=st.none() | st.booleans(),
    permissions=st.none() | st.lists(st.sampled_from(["*", "keys.read"]), max_size=2).map(tuple),
    disabled=st.booleans(),
)


def level(kind: EntityKind, settings: Any = None, **more: Any) -> Level:
    own = settings if isinstance(settings, EntitySettings) else EntitySettings(**(settings or {}))
    return Level(kind=kind, id=f"{kind}-1", alias=f"my {kind}", settings=own, **more)


def family(key: Any = None, user: Any = None, team: Any = None, defaults: Any = None) -> Resolved:
    return resolve(
        level("key", key),
        user=level("user", user),
        team=level("team", team),
        defaults=EntitySettings(**(defaults or {})),
    )


@given(key=SETTINGS, user=SETTINGS, team=SETTINGS, defaults=SETTINGS)
def test_models_only_shrink_and_the_nearest_word_counts(
    key: EntitySettings, user: EntitySettings, team: EntitySettings, defaults: EntitySettings
) -> None:
    levels = (key, user, team, defaults)
    found = resolve(
        level("key", key), user=level("user", user), team=level("team", team), defaults=defaults
    )
    principal = found.principal
    alone = [resolve(level("key", one)).principal.access for one in levels]
    for name in NAMES:
        expected = all(access is None or access.allows(name) for access in alone)
        assert (principal.access is None or principal.access.allows(name)) == expected
    assert principal.tags == {tag for one in levels for tag in one.tags}
    said = [one.may_hint for one in levels if one.may_hint is not None]
    assert principal.may_hint == (said[0] if said else True)
    rights = [one.permissions for one in levels if one.permissions is not None]
    assert principal.permissions == frozenset(rights[0] if rights else ())
    assert (found.refusal is not None) == any(one.disabled for one in levels)


@pytest.mark.parametrize(
    ("user", "team", "tenant"),
    [
        (None, None, "key:key-1"),
        ("user", None, "user:user-1"),
        (None, "team", "team:team-1"),
        ("user", "team", "team:team-1"),
    ],
)
def test_the_tenant_is_the_highest_level(
    user: EntityKind | None, team: EntityKind | None, tenant: str
) -> None:
    found = resolve(
        level("key"), user=level(user) if user else None, team=level(team) if team else None
    )
    assert found.principal.tenant == tenant
    assert (found.principal.user, found.principal.team) == (
        user and "user-1",
        team and "team-1",
    )
    assert found.line == tuple((kind, f"{kind}-1") for kind in ("key", user, team) if kind)


def test_each_level_counts_for_itself() -> None:
    limits = {"requests_per_minute": 10, "tokens_per_minute": 1000, "concurrent_requests": 2}
    budgets = [{"usd": 1.5, "per": "day"}, {"tokens": 7, "per": "total", "fail": "closed"}]
    found = family(
        key={"limits": limits | {"fail": "closed"}},
        user={"budgets": budgets},
        team={"limits": {"requests_per_minute": 50}},
    )
    alerts = (0.8, 1.0)
    assert found.principal.rules == (
        Rule(scope="key:key-1", kind="requests", limit=10, per="minute", fail="closed"),
        Rule(scope="key:key-1", kind="tokens", limit=1000, per="minute", fail="closed"),
        Rule(scope="key:key-1", kind="concurrent", limit=2, fail="closed"),
        Rule(
            scope="user:user-1", kind="spend_usd", limit=1_500_000_000, per="day", alert_at=alerts
        ),
        Rule(
            scope="user:user-1",
            kind="spend_tokens",
            limit=7,
            per="total",
            fail="closed",
            alert_at=alerts,
        ),
        Rule(scope="team:team-1", kind="requests", limit=50, per="minute"),
    )


def test_defaults_are_counted_per_key_and_one_bucket_has_one_limit() -> None:
    found = family(
        key={"limits": {"requests_per_minute": 100}, "budgets": [{"usd": 1, "per": "day"}]},
        defaults={
            "limits": {"requests_per_minute": 60, "tokens_per_minute": 9, "fail": "closed"},
            "budgets": [{"usd": 5, "per": "day"}, {"usd": 5, "per": "month"}],
        },
    )
    rules = {(rule.scope, rule.kind, rule.per): rule for rule in found.principal.rules}
    assert len(rules) == len(found.principal.rules)
    assert rules["key:key-1", "requests", "minute"].limit == 60
    assert rules["key:key-1", "tokens", "minute"].limit == 9
    assert rules["key:key-1", "spend_usd", "day"].limit == 1_000_000_000
    assert rules["key:key-1", "spend_usd", "month"].limit == 5_000_000_000
    assert {rule.scope for rule in found.principal.rules} == {"key:key-1"}


def test_equal_limits_fail_closed_if_either_does_and_alert_at_both() -> None:
    found = family(
        key={"budgets": [{"usd": 1, "alert_at": [0.5]}]},
        defaults={"budgets": [{"usd": 1, "alert_at": [0.9], "fail": "closed"}]},
    )
    (rule,) = found.principal.rules
    assert (rule.fail, rule.alert_at) == ("closed", (0.5, 0.9))


def test_a_tiny_budget_is_still_an_amount() -> None:
    (rule,) = family(key={"budgets": [{"usd": 1e-12}]}).principal.rules
    assert rule.limit == 1


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ({"key": {"revoked_at": 5.0}}, "This API key was revoked"),
        ({"user": {"revoked_at": 5.0}}, "The user that this API key belongs to was revoked"),
        ({"team": {"settings": {"disabled": True}}}, "The team that .* is disabled"),
        ({"key": {"settings": {"disabled": True}}}, "This API key is disabled"),
    ],
)
def test_any_level_can_refuse(levels: Any, says: str) -> None:
    made = {kind: level(kind, **levels.get(kind, {})) for kind in ("key", "user", "team")}
    found = resolve(made["key"], user=made["user"], team=made["team"])
    assert found.refusal is not None

    assert re.match(says, found.refusal)


def test_the_earliest_expiry_counts() -> None:
    found = resolve(
        level("key", expires_at=30.0), user=level("user"), team=level("team", expires_at=20.0)
    )
    assert found.principal.expires_at == 20.0
    assert found.ending(10.0).principal.expires_at == 10.0
    assert found.ending(25.0).principal.expires_at == 20.0


def test_renames_change_no_scope() -> None:
    before = family(team={"limits": {"requests_per_minute": 5}})
    settings = EntitySettings.model_validate({"limits": {"requests_per_minute": 5}})
    renamed = Level(kind="team", id="team-1", alias="another name", settings=settings)
    after = resolve(level("key"), user=level("user"), team=renamed)
    assert before.principal.rules == after.principal.rules
    assert before.principal.tenant == after.principal.tenant


@pytest.mark.parametrize(
    ("permissions", "may", "may_not"),
    [
        ((), (), ("keys.read", "*")),
        (("*",), ("keys.write", "keys.*", "*"), ()),
        (("keys.*",), ("keys.read", "keys.*"), ("users.read", "*")),
        (("keys.read",), ("keys.read",), ("keys.write", "keys.*")),
    ],
)
def test_permissions(
    permissions: tuple[str, ...], may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    principal = resolve(level("key", {"permissions": permissions})).principal
    assert all(principal.may(one) for one in may)
    assert not any(principal.may(one) for one in may_not)


def test_an_empty_list_of_models_allows_none() -> None:
    access = family(user={"models": []}).principal.access
    assert access is not None
    assert not access.allows("gpt-5")
