from __future__ import annotations

import pytest
from pydantic import ValidationError

from routeiq.strategies.latency_sla import LatencySlaStrategy
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, request


def order(limit: float, *latencies: float | None) -> list[str]:
    pool = [
        candidate("", of=each, latency_s=latency)
        for each, latency in zip((CHEAP, MIDDLE, STRONG), latencies, strict=True)
    ]
    strategy = LatencySlaStrategy(LatencySlaStrategy.Options(max_latency_s=limit))
    scores = strategy.score(request("Prove it."), pool)
    return [pool[i].deployment.id for i in sorted(range(3), key=lambda i: -scores[i])]


def test_best_within_the_limit_then_the_fastest() -> None:
    assert order(1.0, 0.2, 0.9, 3.0) == ["middle", "cheap", "strong"]
    assert order(5.0, 0.2, 0.9, 3.0) == ["strong", "middle", "cheap"]
    assert order(0.1, 0.2, 0.9, 3.0) == ["cheap", "middle", "strong"]


def test_exactly_the_limit_is_within_and_unmeasured_counts_as_within() -> None:
    assert order(0.9, 0.2, 0.9, 3.0)[0] == "middle"
    assert order(0.5, 0.2, 0.9, None)[0] == "strong"


def test_explanation_names_the_limit() -> None:
    assert LatencySlaStrategy().explain(request("Hey")).endswith("the best within 2 s")


def test_limit_is_positive() -> None:
    with pytest.raises(ValidationError):
        LatencySlaStrategy.Options(max_latency_s=0)
