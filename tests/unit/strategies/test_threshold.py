from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from routeiq.base import Ask, RoutingStrategy
from routeiq.exceptions import ConfigError
from routeiq.strategies import threshold as module
from routeiq.strategies.prior import PriorStrategy
from routeiq.strategies.threshold import (
    ENOUGH,
    WINDOW,
    ThresholdStrategy,
    calibrate_threshold,
    win_rate,
)
from routeiq.types import Candidate, JsonObject, LoadContext, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, request

POOL = [
    candidate("", of=MIDDLE, cost_usd=0.002),
    candidate("", of=STRONG, cost_usd=0.02),
    candidate("", of=CHEAP, cost_usd=0.0002),
]
CONTEXT = LoadContext(deployments=(CHEAP, MIDDLE, STRONG), models_path="")


class Told(RoutingStrategy):
    """Predicts for the strong model what the text says, 0.5 for all others; notes what is done to it."""

    name: ClassVar[str] = "told"
    done: list[str]

    def load(self, context: LoadContext) -> None:
        self.done = ["load"]

    @property
    def prepares(self) -> bool:
        return True

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        self.done.append("prepare")

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        said = float(request.text or 0.5)
        return [said if each.deployment.id == "strong" else 0.5 for each in candidates]

    def explain(self, request: RoutingRequest) -> str:
        return "as told"

    def reload(self, context: LoadContext) -> bool:
        return True

    def report(self) -> JsonObject:
        return {"artifact": "a"}

    def close(self) -> None:
        self.done.append("close")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "strategy_class", lambda name, key: Told)


def made(**options: Any) -> ThresholdStrategy:
    strategy = ThresholdStrategy(ThresholdStrategy.Options(**options))
    strategy.load(CONTEXT)
    return strategy


def choose(strategy: ThresholdStrategy, text: str) -> str:
    scores = strategy.score(request(text), POOL)
    return POOL[max(range(3), key=scores.__getitem__)].deployment.id


@pytest.mark.parametrize(
    ("strong", "weak", "rate"), [(0.9, 0.5, 0.7), (0.5, 0.5, 0.5), (0.4, 0.8, 0.3), (1, 0, 1.0)]
)
def test_win_rate_by_hand(strong: float, weak: float, rate: float) -> None:
    assert win_rate(strong, weak) == pytest.approx(rate)
    # better answer when independent: s (1 - w), and half of the ties s w + (1 - s)(1 - w)
    ties = strong * weak + (1 - strong) * (1 - weak)
    assert win_rate(strong, weak) == pytest.approx(strong * (1 - weak) + ties / 2)


@pytest.mark.parametrize(
    ("rates", "share", "expected_share"),
    [
        ([0.1, 0.2, 0.3, 0.4], 0.5, 0.5),
        ([0.4, 0.1, 0.3, 0.2], 0.25, 0.25),
        ([0.1, 0.2, 0.3, 0.4], 0.0, 0.0),
        ([0.1, 0.2, 0.3, 0.4], 1.0, 1.0),
        ([0.1, 0.2, 0.3, 0.4], 0.6, 0.5),
        ([0.1, 0.3, 0.3, 0.4], 0.5, 0.25),
        ([0.3, 0.3, 0.3, 0.3], 0.5, 0.0),
        ([0.3], 1.0, 1.0),
        ([x / 10 for x in range(10)], 0.3, 0.3),
    ],
)
def test_calibrated_threshold_sends_no_more_than_the_share(
    rates: list[float], share: float, expected_share: float
) -> None:
    cut = calibrate_threshold(rates, share)
    assert sum(rate >= cut for rate in rates) / len(rates) == pytest.approx(expected_share)


def test_calibration_gives_the_lowest_win_rate_of_the_share() -> None:
    assert calibrate_threshold([0.1, 0.2, 0.3, 0.4], 0.5) == 0.3


@pytest.mark.parametrize(("rates", "share"), [([], 0.5), ([0.5], 1.1), ([0.5], -0.1)])
def test_calibration_refuses_nonsense(rates: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"calibration needs|strong share must"):
        calibrate_threshold(rates, share)


@pytest.mark.usefixtures("told")
def test_strong_from_the_threshold_on() -> None:
    strategy = made(threshold=0.7)
    assert choose(strategy, "0.89") == "cheap"
    assert choose(strategy, "0.9") == "strong"
    assert strategy.score(request("0.9"), POOL) == [0.5, 3.0, 2.0]
    assert strategy.score(request("0.8"), POOL) == [0.5, 2.0, 3.0]


@pytest.mark.usefixtures("told")
def test_pair_can_be_named() -> None:
    strategy = made(threshold=0.7, strong="strong", weak="middle")
    assert choose(strategy, "0.5") == "middle"
    assert choose(made(threshold=0.5, strong="cheap"), "0.1") == "cheap"  # no pair: it is both
    assert choose(made(threshold=0.7, strong="gone"), "0.95") == "strong"


@pytest.mark.usefixtures("told")
def test_pair_of_one() -> None:
    strategy = made()
    asked = request("0.9")
    assert strategy.score(asked, POOL[:1]) == [3.0]
    assert strategy.explain(asked) == "no pair to choose from; as told"


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_strong_share_follows_what_was_seen(share: float) -> None:
    strategy = made(strong_share=share)
    texts = [f"{(i * 37 % 100) / 100:.2f}" for i in range(400)]
    for text in texts[:200]:
        strategy.score(request(text), POOL)
    strong = [choose(strategy, text) for text in texts[200:]].count("strong")
    assert strong / 200 == pytest.approx(share, abs=0.02)
    assert strategy.report()["strong_share"] == pytest.approx(share, abs=0.02)


@pytest.mark.usefixtures("told")
def test_window_forgets() -> None:
    strategy = made(strong_share=0.5)
    for text in ["0.1"] * ENOUGH + [f"{0.8 + i % 10 / 100:.2f}" for i in range(WINDOW)]:
        strategy.score(request(text), POOL)
    assert choose(strategy, "0.80") == "cheap"
    assert choose(strategy, "0.89") == "strong"
    assert "for a strong share of 0.5" in explained(strategy, "0.89")


def explained(strategy: ThresholdStrategy, text: str) -> str:
    asked = request(text)
    strategy.score(asked, POOL)
    return strategy.explain(asked)


def test_before_enough_was_seen_the_hardest_share_by_difficulty() -> None:
    strategy = made(strong_share=0.8)
    assert choose(strategy, "Hi") == "cheap"
    assert choose(strategy, "Prove it.") == "strong"  # difficulty 0.20 = 1 - 0.8
    assert "not yet known" in explained(strategy, "Prove it.")


def test_prior_is_the_default_predictor() -> None:
    strategy = made(threshold=0.55)
    assert choose(strategy, "Hi") == "cheap"
    assert choose(strategy, "Prove and derive it; half, twice, a third") == "strong"
    assert explained(strategy, "Hi").startswith("win rate 0.510, threshold 0.55; difficulty 0.00")


@pytest.mark.usefixtures("told")
def test_predictor_is_told_everything() -> None:
    strategy = made(threshold=0.5)
    assert strategy.prepares
    asyncio.run(strategy.prepare(request(), None))  # type: ignore[arg-type]
    strategy.score(request("0.9"), POOL)
    assert strategy.report() == {
        "threshold": 0.5,
        "strong_share": 1.0,
        "using": "prior",
        "predictor": {"artifact": "a"},
    }
    assert strategy.reload(CONTEXT)
    assert strategy.report()["strong_share"] is None
    strategy.close()
    predictor = strategy._predictor
    assert isinstance(predictor, Told)
    assert predictor.done == ["load", "prepare", "close"]


def test_before_loading_it_neither_prepares_nor_reloads() -> None:
    strategy = ThresholdStrategy()
    assert not strategy.prepares
    assert not strategy.reload(CONTEXT)
    asyncio.run(strategy.prepare(request(), None))  # type: ignore[arg-type]
    assert strategy.explain(request()) == ""
    assert strategy.report()["predictor"] == {}
    strategy.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"using": "round-robin"}, "does not predict quality"),
        ({"using": "prior", "artifact": "x"}, "takes no artifact"),
        ({"using": "nonsense"}, "no strategy is called"),
    ],
)
def test_predictor_must_predict(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_artifact_goes_to_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Learned(PriorStrategy):
        class Options(PriorStrategy.Options):
            artifact: str | None = None

    monkeypatch.setattr(module, "strategy_class", lambda name, key: Learned)
    predictor = made(using="hybrid", artifact="v1")._predictor
    assert predictor is not None
    assert predictor.options.artifact == "v1"


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.5, "strong_share": 0.5}, {"using": "threshold"}, {"strong_share": 2}],
)
def test_contradicting_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ThresholdStrategy.Options(**options)


def test_scores_without_having_been_loaded() -> None:
    strategy = ThresholdStrategy(ThresholdStrategy.Options(threshold=0.55))
    assert choose(strategy, "Hi") == "cheap"
