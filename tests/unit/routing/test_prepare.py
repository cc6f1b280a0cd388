"""What a strategy does before it scores, and after an answer: bounded, counted, never fatal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from routeiq import registry
from routeiq.base import Ask, RoutingStrategy
from routeiq.config.section import Learning, RouteIQSection
from routeiq.exceptions import ModelNotFound
from routeiq.types import (
    Candidate,
    Deployment,
    JsonObject,
    Outcome,
    RoutingRequest,
    StrategyTraits,
)
from tests.support.routing import CHEAP, STRONG, World, request

pytestmark = pytest.mark.anyio


class Patient(RoutingStrategy):
    """Prepares as the test says."""

    name: ClassVar[str] = "patient"
    traits: ClassVar[StrategyTraits] = StrategyTraits(
        scores="quality", prepares=True, verifies=True, learns_online=True
    )
    step: ClassVar[Any]
    verdict: ClassVar[Any]
    heard: ClassVar[list[Any]]

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        await type(self).step()

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        return [0.5] * len(candidates)

    def accept(
        self, request: RoutingRequest, answers: Sequence[tuple[Deployment, JsonObject]]
    ) -> bool:
        verdict: bool = type(self).verdict()
        return verdict

    def learn(self, request: RoutingRequest, decision: Any, reward: float) -> None:
        self.heard.append((request.id, decision.id, reward))


async def nothing() -> None:
    """Prepared at once."""


async def failure() -> None:
    raise RuntimeError("broken")


async def forever() -> None:
    await asyncio.Event().wait()


async def no_ask(
    model: str, messages: list[JsonObject], *, max_tokens: int, timeout_s: float
) -> str:
    raise AssertionError("nobody asks here")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    known = registry.strategy_class

    def find(name: str, *, key: str = "") -> Any:
        return Patient if name == "patient" else known(name, key=key)

    monkeypatch.setattr("routeiq.routing.strategy_set.strategy_class", find)
    monkeypatch.setattr(Patient, "step", staticmethod(nothing), raising=False)
    monkeypatch.setattr(Patient, "verdict", staticmethod(lambda: True), raising=False)
    monkeypatch.setattr(Patient, "heard", [], raising=False)
    section = RouteIQSection(learning=Learning(prepare_timeout_ms=1.0))
    return World([CHEAP, STRONG], section=section, strategy="patient")


@pytest.mark.parametrize(("step", "failures"), [(nothing, 0), (failure, 1), (forever, 1)])
async def test_preparation_is_bounded_and_its_failure_only_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, step: Any, failures: int
) -> None:
    monkeypatch.setattr(Patient, "step", staticmethod(step))
    assert world.router.is_slow(request())
    assert not world.router.is_cpu_bound(request())
    await world.router.prepare(request(), no_ask)
    assert world.router.strategy_failures.get("patient", 0) == failures
    assert world.choose() == "cheap"


async def test_a_model_asked_by_name_needs_no_preparation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patient, "step", staticmethod(failure))
    named = request(model="cheap")
    assert not world.router.is_slow(named)
    await world.router.prepare(named, no_ask)
    assert world.router.strategy_failures == {}


async def test_an_unknown_model_is_not_found_before_anything_is_prepared(world: World) -> None:
    with pytest.raises(ModelNotFound):
        world.router.is_slow(request(model="nobody"))


async def test_a_strategy_that_cannot_say_whether_it_prepares_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patient, "prepares", property(lambda self: 1 / 0))
    assert not world.router.is_slow(request())
    assert world.router.strategy_failures["patient"] == 1


def unsure() -> bool:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("verdict", "accepted"),
    [(lambda: True, True), (lambda: False, False), (unsure, True), (lambda: None, True)],
)
async def test_only_a_clear_no_rejects_an_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, verdict: Any, accepted: bool
) -> None:
    monkeypatch.setattr(Patient, "verdict", staticmethod(verdict))
    strategy = world.router.verifier_of(request(), world.router.decide(request()))
    assert strategy is not None
    assert world.router.accepts(strategy, request(), [(CHEAP, {})]) is accepted


async def test_decisions_of_other_strategies_have_no_verifier(world: World) -> None:
    named = request(model="cheap")
    assert world.router.verifier_of(named, world.router.decide(named)) is None


async def test_feedback_reaches_those_that_learn(world: World) -> None:
    decision = world.router.decide(request())
    assert world.router.learn(request(), decision, 0.25) == 1
    assert Patient.heard == [("r", decision.id, 0.25)]
    outcome = Outcome(kind="success", status=200, deployment=CHEAP, attempts=(), latency_ms=1.0)
    world.router.observe(request(), decision, outcome)
    assert world.router.strategy_failures == {}
