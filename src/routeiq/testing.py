"""Public contract suites and fakes: third parties run the same checks as this repository.

    @pytest.mark.parametrize("check", strategy_checks())
    def test_my_strategy(check):
        check(MyStrategy)

A check takes a factory, a callable that gives a new, unloaded instance with the same options each time. It
raises `AssertionError` with what was expected. Nothing here needs pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import isfinite

from routeiq.base import RoutingStrategy
from routeiq.types import (
    Candidate,
    Decision,
    Deployment,
    LoadContext,
    ModelFacts,
    Outcome,
    Ranked,
    RoutingRequest,
)

StrategyFactory = Callable[[], RoutingStrategy]
StrategyCheck = Callable[[StrategyFactory], None]

BUDGET_S = 0.3e-3
"""CPU time for one `score` over ten candidates that a strategy without `cpu_bound` may take."""
WAITING = 10.0
"""Budgets of wall time that one `score` may take: other processes may use the machine, but waiting is no work."""
TEXTS = ("", "Hi!", "Prove that 2 + 2 = 4.", "你好,证明它。", "\U0001f600\u202e\x00", "a " * 2000)


def sample_request(text: str = "Compare TCP with UDP.") -> RoutingRequest:
    """A small chat request."""
    return RoutingRequest(
        id="check", operation="chat", model="auto", text=text, input_tokens=8 + len(text)
    )


def sample_candidates(count: int) -> list[Candidate]:
    """Candidates of mixed kinds: each third without a price, each fourth without a latency."""
    return [_sample(index, priced=index % 3 != 2) for index in range(count)]


def _sample(index: int, *, priced: bool) -> Candidate:
    price = (index + 1) * 1e-7 if priced else None
    deployment = Deployment(
        id=f"deployment-{index}",
        group=f"modèle-{index}",
        provider="openai",
        model=f"model-{index}",
        weight=float(index % 5) or None,
        facts=ModelFacts(input_usd_per_token=price, output_usd_per_token=price),
    )
    return Candidate(
        deployment=deployment,
        cost_usd=(index + 1) * 1e-4 if priced else None,
        latency_s=None if index % 4 == 3 else 0.1 * (index + 1),
        in_flight=index % 2,
    )


def strategy_checks() -> list[StrategyCheck]:
    """Every check that a routing strategy must pass."""
    return [
        check_declares_itself,
        check_scores_are_finite_and_match_candidates,
        check_takes_any_text,
        check_takes_candidates_about_which_nothing_is_known,
        check_takes_a_thousand_candidates,
        check_changes_nothing_it_was_given,
        check_repeats_itself,
        check_learns_without_failing,
        check_loads_and_closes_twice,
        check_stays_within_the_time_budget,
    ]


def check_declares_itself(factory: StrategyFactory) -> None:
    """`name` is a non-empty string; the options refuse unknown names."""
    strategy = factory()
    _require(bool(strategy.name.strip()), "`name` must be set")
    _require(strategy.Options.model_config.get("extra") == "forbid", "Options must be strict")


def check_scores_are_finite_and_match_candidates(factory: StrategyFactory) -> None:
    """One finite float for each candidate, one candidate included."""
    strategy = _loaded(factory)
    for count in (1, 2, 10):
        _scores(strategy, sample_request(), sample_candidates(count))


def check_takes_any_text(factory: StrategyFactory) -> None:
    """Empty, long, other scripts, control characters; `explain` gives a string for all."""
    strategy = _loaded(factory)
    for text in TEXTS:
        request = sample_request(text)
        _scores(strategy, request, sample_candidates(3))
        _require(isinstance(strategy.explain(request), str), "`explain` must give a string")


def check_takes_candidates_about_which_nothing_is_known(factory: StrategyFactory) -> None:
    """No price, no latency, deployments that `load` never saw."""
    unknown = [
        Candidate(deployment=Deployment(id=name, group=name, provider="p", model=name))
        for name in ("x", "y")
    ]
    _scores(_loaded(factory), sample_request(), unknown)
    _scores(factory(), sample_request(), unknown)


def check_takes_a_thousand_candidates(factory: StrategyFactory) -> None:
    """Large installations work."""
    _scores(_loaded(factory), sample_request(), sample_candidates(1000))


def check_changes_nothing_it_was_given(factory: StrategyFactory) -> None:
    """The list of candidates is as it was."""
    candidates = sample_candidates(5)
    before = list(candidates)
    _loaded(factory).score(sample_request(), candidates)
    _require(candidates == before, "`score` must not change the candidates")


def check_repeats_itself(factory: StrategyFactory) -> None:
    """Two new instances give the same scores for the same requests; random ones when seeded."""

    def run() -> list[list[float]]:
        strategy = factory()
        if "seed" in type(strategy).Options.model_fields:
            strategy = type(strategy)(strategy.options.model_copy(update={"seed": 7}))
        strategy.load(_context())
        return [list(strategy.score(sample_request(text), sample_candidates(4))) for text in TEXTS]

    _require(run() == run(), "the same requests must give the same scores")


def check_learns_without_failing(factory: StrategyFactory) -> None:
    """`observe` takes successes and failures."""
    strategy = _loaded(factory)
    deployment = sample_candidates(1)[0].deployment
    ranking = (Ranked(deployment=deployment, score=0.5, utility=0.5),)
    decision = Decision(
        id="d", requested="auto", strategy=strategy.name, reason="", ranking=ranking
    )
    good = Outcome(kind="success", status=200, deployment=deployment, attempts=(), latency_ms=1.0)
    bad = Outcome(kind="error", status=502, deployment=None, attempts=(), latency_ms=1.0)
    for outcome in (good, bad):
        strategy.observe(decision, outcome)
    _scores(strategy, sample_request(), sample_candidates(2))


def check_loads_and_closes_twice(factory: StrategyFactory) -> None:
    """`load` and `close` may be repeated, and `close` works on an instance that was never loaded."""
    factory().close()
    strategy = _loaded(factory)
    strategy.load(_context())
    strategy.close()
    strategy.close()


def check_stays_within_the_time_budget(factory: StrategyFactory) -> None:
    """`score` over ten candidates, best of many runs, unless the strategy says it is `cpu_bound`."""
    strategy = _loaded(factory)
    candidates = sample_candidates(10)
    times = []
    for _ in range(0 if strategy.traits.cpu_bound else 50):
        request = sample_request()
        start, clock = time.thread_time(), time.perf_counter()
        strategy.score(request, candidates)
        waited = (time.perf_counter() - clock) / WAITING  # a strategy that sleeps uses no CPU time
        times.append(max(time.thread_time() - start, waited))
    best = min(times, default=0.0)
    _require(best <= BUDGET_S, f"`score` took {best * 1e3:.3f} ms; declare `cpu_bound`?")


def _context() -> LoadContext:
    deployments = tuple(candidate.deployment for candidate in sample_candidates(10))
    return LoadContext(deployments=deployments, models_path="")


def _loaded(factory: StrategyFactory) -> RoutingStrategy:
    strategy = factory()
    strategy.load(_context())
    return strategy


def _scores(
    strategy: RoutingStrategy, request: RoutingRequest, candidates: Sequence[Candidate]
) -> None:
    scores = strategy.score(request, candidates)
    _require(
        len(scores) == len(candidates), f"{len(scores)} scores for {len(candidates)} candidates"
    )
    _require(all(isfinite(score) for score in scores), f"scores must be finite: {scores!r}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
