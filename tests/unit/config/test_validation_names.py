from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from routeiq.config.document import Place
from routeiq.config.litellm_sections import ConfigFile
from routeiq.config.loader import inspect_config
from routeiq.config.validation import _fields_beside, is_secret

SECRET = "sk-written-in-the-wrong-place"


@pytest.mark.parametrize(
    ("path", "some", "not_"),
    [
        (("routeiq", "x"), {"access", "strategy", "experiments"}, {"usd", "limits"}),
        (("routeiq", "access", "x"), {"keys", "users", "teams", "defaults"}, {"strategy"}),
        (("routeiq", "access", "keys", "ci", "x"), {"key", "user", "limits"}, {"team_id", "usd"}),
        (("routeiq", "access", "teams", "a", "x"), {"limits", "budgets"}, {"key", "user"}),
        (("routeiq", "access", "keys", "ci", "limits", "x"), {"requests_per_minute"}, {"usd"}),
        (("routeiq", "access", "keys", "ci", "budgets", 0, "x"), {"usd", "per"}, {"limits"}),
        (("routeiq", "experiments", "ab", "x"), {"variants", "guards"}, {"weight"}),
        (("routeiq", "experiments", "ab", "variants", "a", "x"), {"weight"}, {"guards"}),
        (("routeiq", "experiments", "ab", "ramp", "x"), {"start", "hours"}, {"weight"}),
        (("routeiq", "experiments", "ab", "guards", 3, "x"), {"metric"}, {"weight"}),
        (("routeiq", "state", "x"), {"redis_timeout_s", "lease_s"}, {"ttl_s"}),
    ],
)
def test_the_keys_that_are_known_beside_one(path: Place, some: set[str], not_: set[str]) -> None:
    found = _fields_beside(path)
    assert some <= found
    assert not not_ & found


def test_where_it_cannot_be_told_all_are_known() -> None:
    found = _fields_beside(("routeiq", "nowhere", "deeper", "x"))
    assert {"usd", "weight", "redis_timeout_s", "requests_per_minute"} <= found


def test_at_the_top_are_the_sections() -> None:
    assert _fields_beside(("x",)) == set(ConfigFile.model_fields)


def said(tmp_path: Path, section: dict[str, Any]) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"routeiq": section}))
    _, problems = inspect_config(str(path), {})
    return [str(one) for one in problems if "routeiq" in one.key]


@pytest.mark.parametrize(
    ("section", "fix"),
    [
        ({"acces": {}}, "access"),
        ({"access": {"teams": {"a": {"limit": {}}}}}, "limits"),
        ({"access": {"keys": {"a": {"key": "k" * 16, "usr": "b"}}}}, "user"),
        ({"access": {"teams": {"a": {"budgets": [{"used": 1}]}}}}, "usd"),
        ({"experiments": {"ab": {"variants": {"a": {"wieght": 1}}}}}, "weight"),
        ({"decisions": {"retention_day": 1}}, "retention_days"),
    ],
)
def test_a_mistyped_key_gets_the_right_one(
    tmp_path: Path, section: dict[str, Any], fix: str
) -> None:
    (one,) = said(tmp_path, section)
    assert "is not a known key" in one
    assert fix in one.partition("is not a known key")[2]


@pytest.mark.parametrize(
    "keys",
    [
        {"ci": SECRET},
        {"ci": [SECRET]},
        {"ci": {"key": SECRET, "user": "a", "team": "b"}},
        {"ci": {"key": SECRET[:9]}},
        {"ci": {"key": [SECRET]}},
    ],
)
def test_a_secret_that_is_written_wrongly_is_in_no_message(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    found = said(tmp_path, {"access": {"keys": keys}})
    assert found
    assert not any(SECRET[:9] in one for one in found)


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (("routeiq", "access", "keys", "ci"), True),
        (("routeiq", "access", "keys", "ci", "key"), True),
        (("routeiq", "access", "keys", "ci", "models"), False),
        (("routeiq", "access", "keys"), False),
        (("routeiq", "state", "key_grace_s"), False),
        (("model_list", 0, "litellm_params", "api_key"), True),
    ],
)
def test_what_must_not_be_shown(path: Place, secret: bool) -> None:
    assert is_secret(path) is secret
