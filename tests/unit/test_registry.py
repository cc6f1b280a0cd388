from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from routeiq import registry
from routeiq.base import RoutingStrategy
from routeiq.exceptions import ConfigError
from routeiq.strategies.prior import PriorStrategy


@pytest.mark.parametrize("name", registry.BUILTIN_STRATEGIES)
def test_builtin_names_load_strategies(name: str) -> None:
    assert issubclass(registry.strategy_class(name), RoutingStrategy)


def test_entry_points_are_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(group: str) -> list[EntryPoint]:
        assert group == "routeiq.strategies"
        value = "routeiq.strategies.prior:PriorStrategy"
        return [EntryPoint("mine", value, group), EntryPoint("other", "no.such:Thing", group)]

    monkeypatch.setattr(registry, "entry_points", installed)
    found: Any = registry.strategy_class("mine")
    assert found is PriorStrategy


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        registry.strategy_class("round-robn", key="routeiq.balancing")
    (problem,) = caught.value.problems
    assert problem.key == "routeiq.balancing"
    assert problem.fix == "Did you mean 'round-robin'?"


def test_unknown_name_without_a_near_one_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"no strategy is called 'zzz'. Known: adaptive, "):
        registry.strategy_class("zzz")
