from __future__ import annotations

from typing import Any

import pytest

from routeiq.access.declared import Declared, declared_problems, digest_of
from routeiq.config.access import Access
from routeiq.exceptions import ConfigError

SECRET = "a-secret-of-sixteen"


def access(**sections: Any) -> Access:
    return Access.model_validate(sections)


def test_a_declared_key_inherits_from_what_is_declared() -> None:
    declared = Declared(
        access(
            keys={"bot": {"key": SECRET, "user": "ann", "expires": "2027-01-31", "tags": ["k"]}},
            users={"ann": {"team": "research", "models": ["gpt-*"]}},
            teams={"research": {"budgets": [{"usd": 3}], "tags": ["t"]}},
            defaults={"limits": {"requests_per_minute": 5}},
        )
    )
    found = declared.find(digest_of(SECRET.encode()))
    assert found is not None
    principal = found.principal
    assert (principal.alias, principal.key_id) == ("bot", "config:bot")
    assert (principal.user, principal.team) == ("config:ann", "config:research")
    assert principal.tenant == "team:config:research"
    assert {rule.scope for rule in principal.rules} == {"key:config:bot", "team:config:research"}
    assert principal.tags == {"k", "t"}
    assert principal.access is not None
    assert not principal.access.allows("claude")
    assert principal.expires_at == 1_801_440_000.0
    assert declared.find(digest_of(b"another")) is None
    assert set(declared.entries("key")) == {"bot"}
    assert set(declared.entries("user")) == {"ann"}
    assert set(declared.entries("team")) == {"research"}


def test_a_key_may_belong_to_a_team_only() -> None:
    declared = Declared(access(keys={"bot": {"key": SECRET, "team": "t"}}, teams={"t": {}}))
    found = declared.find(digest_of(SECRET.encode()))
    assert found is not None
    assert (found.principal.user, found.principal.team) == (None, "config:t")


@pytest.mark.parametrize(
    ("sections", "key", "says"),
    [
        ({"keys": {"a": {"key": SECRET, "user": "x"}}}, "keys.a.user", "there is no user `x`"),
        ({"keys": {"a": {"key": SECRET, "team": "x"}}}, "keys.a.team", "there is no team `x`"),
        ({"users": {"u": {"team": "x"}}}, "users.u.team", "there is no team `x`"),
        (
            {"keys": {"a": {"key": SECRET, "expires": "soon"}}},
            "keys.a.expires",
            "'soon' is no date",
        ),
        ({"keys": {"a": {"key": SECRET, "expires": "30d"}}}, "keys.a.expires", "is no date"),
        (
            {"keys": {"a": {"key": SECRET}, "b": {"key": SECRET}}},
            "keys.b.key",
            "the same secret as `a`",
        ),
    ],
)
def test_problems_say_where_and_what(sections: dict[str, Any], key: str, says: str) -> None:
    (problem,) = declared_problems(access(**sections))
    assert problem.key == f"routeiq.access.{key}"
    assert says in problem.message
    assert SECRET not in str(problem)
    with pytest.raises(ConfigError, match=says):
        Declared(access(**sections))


def test_nothing_declared_is_no_problem() -> None:
    assert declared_problems(Access()) == []
    assert Declared(Access()).find(digest_of(b"x")) is None
