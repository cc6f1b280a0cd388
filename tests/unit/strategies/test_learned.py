"""What all learned strategies share, with an estimator whose predictions can be read off its arrays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.embeddings.features import load_features
from routeiq.exceptions import ConfigError
from routeiq.strategies.estimator import Arrays, Estimator, Matrix
from routeiq.strategies.learned import LearnedStrategy, covers
from routeiq.strategies.prior import difficulty, prior_score, quality
from routeiq.testing import StrategyCheck, strategy_checks
from routeiq.types import LoadContext, Margin, RoutingRequest
from tests.support.routing import CHEAP, MIDDLE, STRONG, candidate, deployment, facts, request

TRIO = (CHEAP, MIDDLE, STRONG)
CANDIDATES = [candidate(one.id, of=one) for one in TRIO]


class Fixed(Estimator):
    """Predicts what its array says, whatever the prompt."""

    kind: ClassVar[str] = "fixed"

    def __init__(self, models: tuple[str, ...], values: Matrix) -> None:
        super().__init__(models)
        self.values = values

    def predict(self, x: Matrix) -> Matrix:
        return np.repeat(self.values[None, :], len(x), axis=0)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"values": self.values}, {}

    @classmethod
    def restore(cls, models: tuple[str, ...], arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        return cls(models, arrays["values"])


class FixedStrategy(LearnedStrategy):
    name: ClassVar[str] = "fixed"
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"fixed": Fixed}


def save(
    folder: Path,
    values: dict[str, float],
    *,
    strategy: str = "fixed",
    fingerprint: str | None = None,
    settings: dict[str, Any] | None = None,
    certificates: list[dict[str, Any]] | None = None,
) -> Path:
    draft = Draft(
        strategy=strategy,
        features=load_features().fingerprint if fingerprint is None else fingerprint,
        models=tuple(values),
        arrays={"values": np.array(list(values.values()), dtype=np.float32)},
        settings=settings or {},
        certificates=certificates or [],
    )
    write_artifact(folder, draft)
    return folder


def context(path: Path) -> LoadContext:
    return LoadContext(deployments=TRIO, models_path=str(path))


def loaded(path: Path, **options: Any) -> FixedStrategy:
    strategy = FixedStrategy(FixedStrategy.Options(**options))
    strategy.load(context(path))
    return strategy


def test_scores_are_the_estimators_in_the_order_of_the_candidates(tmp_path: Path) -> None:
    save(tmp_path / "fixed", {"strong": 0.9, "cheap": 0.4, "middle": 0.6})
    strategy = loaded(tmp_path)
    assert strategy.score(request(), CANDIDATES) == pytest.approx([0.4, 0.6, 0.9])
    assert strategy.score(request(), CANDIDATES[::-1]) == pytest.approx([0.9, 0.6, 0.4])
    assert strategy.explain(request()).startswith("predicted by artifact ")


def test_without_an_artifact_it_scores_like_the_prior_and_says_so(tmp_path: Path) -> None:
    strategy = loaded(tmp_path)
    hard = difficulty(request())
    expected = [prior_score(quality(one.facts), hard) for one in TRIO]
    assert strategy.score(request(), CANDIDATES) == pytest.approx(expected)
    assert strategy.explain(request()) == f"prior, no trained artifact in {tmp_path}"
    assert strategy.report()["artifact"] is None


def test_a_model_that_the_artifact_never_saw_gets_its_price_tiers_mean(tmp_path: Path) -> None:
    save(tmp_path / "fixed", {"strong": 0.9, "cheap": 0.4, "middle": 0.6, "gone": 0.0})
    new = deployment("new", facts=facts((14.0, 62.0)))
    (score,) = loaded(tmp_path).score(request(), [candidate("new", of=new)])
    assert score == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("weight", "share"), [(None, 0.25), (0.0, 0.0), (1.0, 1.0)])
def test_the_prior_has_the_share_that_option_or_artifact_say(
    tmp_path: Path, weight: float | None, share: float
) -> None:
    save(tmp_path / "fixed", {"cheap": 0.4}, settings={"prior_weight": 0.25})
    (score,) = loaded(tmp_path, prior_weight=weight).score(request(), CANDIDATES[:1])
    prior = prior_score(quality(CHEAP.facts), difficulty(request()))
    assert score == pytest.approx((1 - share) * 0.4 + share * prior, abs=1e-6)


@pytest.mark.parametrize(
    ("strategy", "fingerprint", "said"),
    [
        ("other", None, "is for strategy 'other'"),
        ("fixed", "static-1:0", "was trained on features 'static-1:0'"),
    ],
)
def test_an_artifact_that_does_not_fit_is_refused_with_a_reason(
    tmp_path: Path, strategy: str, fingerprint: str | None, said: str
) -> None:
    save(tmp_path / "fixed", {"cheap": 0.4}, strategy=strategy, fingerprint=fingerprint)
    found = loaded(tmp_path)
    assert found.loaded is None
    assert said in str(found.report()["reason"])
    with pytest.raises(ConfigError, match=said):
        loaded(tmp_path, artifact="fixed")


def test_reload_takes_a_new_artifact_and_keeps_the_old_where_the_new_is_bad(tmp_path: Path) -> None:
    save(tmp_path / "fixed", {"cheap": 0.4})
    strategy = loaded(tmp_path)
    assert strategy.reload(context(tmp_path)) is False
    save(tmp_path / "next", {"cheap": 0.7})
    (tmp_path / "fixed").rename(tmp_path / "old")
    (tmp_path / "next").rename(tmp_path / "fixed")
    assert strategy.reload(context(tmp_path)) is True
    assert strategy.score(request(), CANDIDATES[:1]) == pytest.approx([0.7])
    weights = tmp_path / "fixed" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ConfigError, match="fixed"):
        strategy.reload(context(tmp_path))
    assert strategy.score(request(), CANDIDATES[:1]) == pytest.approx([0.7])


CERTIFICATE = {
    "reference": "strong",
    "epsilon": 0.01,
    "delta": 0.1,
    "tau": 0.05,
    "models": ["strong", "cheap", "gone"],
    "cost_weights": ["cheapest", 0.0, 20.0],
}


@pytest.mark.parametrize(
    ("reference", "epsilon", "delta", "options", "expected"),
    [
        ("strong", 0.01, 0.1, {}, 0.05),
        ("strong", 0.02, 0.2, {}, 0.05),
        ("strong", 0.005, 0.1, {}, None),
        ("strong", 0.01, 0.05, {}, None),
        ("cheap", 0.01, 0.1, {}, None),
        ("strong", 0.01, 0.1, {"prior_weight": 0.5}, None),
    ],
)
def test_a_margin_is_certified_only_for_what_was_certified(
    tmp_path: Path,
    reference: str,
    epsilon: float,
    delta: float,
    options: dict[str, Any],
    expected: float | None,
) -> None:
    save(tmp_path / "fixed", {"strong": 0.9, "cheap": 0.4}, certificates=[CERTIFICATE])
    found = loaded(tmp_path, **options).certified_margin(reference, epsilon, delta, 20.0)
    if expected is None:
        assert found is None
    else:
        assert found == Margin(tau=expected, deployments=frozenset({"strong", "cheap"}))


@pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
def test_keeps_the_contract_with_an_artifact(tmp_path: Path, check: StrategyCheck) -> None:
    save(tmp_path / "a", {f"model-{index}": index / 20 for index in range(5)})
    check(lambda: FixedStrategy(FixedStrategy.Options(artifact=str(tmp_path / "a"))))


@pytest.mark.parametrize(
    ("tested", "cost_weight", "expected"),
    [
        (["cheapest", 0.0, 20.0], 7.0, True),
        (["cheapest", 0.0], None, True),
        (["cheapest", 20.0], 7.0, False),
        ([100.0], 100.0, True),
        ([100.0], 99.0, False),
        ([100.0], None, False),
        ([], 0.0, False),
    ],
)
def test_a_certificate_holds_for_the_cost_weights_that_were_tested(
    tested: list[float | str], cost_weight: float | None, expected: bool
) -> None:
    assert covers(tested, cost_weight) is expected


class Unsure(Fixed):
    """Trusts itself by half."""

    kind: ClassVar[str] = "fixed"

    def predict_with_trust(self, x: Matrix) -> tuple[Matrix, Matrix | None]:
        return self.predict(x), np.full(len(x), 0.5, dtype=np.float32)


class UnsureStrategy(FixedStrategy):
    estimators: ClassVar[Mapping[str, type[Estimator]]] = {"fixed": Unsure}


def test_what_is_unlike_the_training_data_is_left_to_the_prior(tmp_path: Path) -> None:
    save(tmp_path / "fixed", {"cheap": 0.4})
    strategy = UnsureStrategy()
    strategy.load(context(tmp_path))
    asked = request()
    (score,) = strategy.score(asked, CANDIDATES[:1])
    prior = prior_score(quality(CHEAP.facts), difficulty(asked))
    assert score == pytest.approx((0.4 + prior) / 2, abs=1e-6)
    assert strategy.explain(asked).endswith("50% prior as the prompt is unlike its training data")


class SlowFeatures:
    """Features that are never ready in time."""

    fingerprint = "slow:1"
    dimension = 4
    off_loop = True

    def __init__(self) -> None:
        self.warmed: list[str] = []

    def one(self, request: RoutingRequest) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    async def warm(self, request: RoutingRequest) -> None:
        self.warmed.append(request.text)


@pytest.mark.parametrize("twin", [True, False])
def test_while_slow_features_are_not_ready_the_twin_or_the_prior_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: bool
) -> None:
    slow, known = SlowFeatures(), load_features()
    monkeypatch.setattr(
        "routeiq.strategies.loading.load_features",
        lambda name: slow if name == "slow" else known,
    )
    settings: dict[str, Any] = {"features": "slow", "estimator": {}}
    values = np.array([0.9], dtype=np.float32)
    arrays = {"values": values}
    if twin:
        settings["twin"] = {"features": known.fingerprint, "estimator": {}}
        arrays["static/values"] = np.array([0.3], dtype=np.float32)
    draft = Draft(
        strategy="fixed", features="slow:1", models=("cheap",), arrays=arrays, settings=settings
    )
    write_artifact(tmp_path / "fixed", draft)
    strategy = loaded(tmp_path)
    assert strategy.prepares
    asyncio.run(strategy.prepare(request("hello"), no_asking))
    assert slow.warmed == ["hello"]
    (score,) = strategy.score(request(), CANDIDATES[:1])
    prior = prior_score(quality(CHEAP.facts, CHEAP.model), difficulty(request()))
    assert score == pytest.approx(0.3 if twin else prior)


async def no_asking(
    model: str, messages: list[dict[str, Any]], *, max_tokens: int, timeout_s: float
) -> str:
    raise AssertionError("features need no model")


def test_the_lengths_of_answers_in_the_training_data_predict_costs(tmp_path: Path) -> None:
    lengths = {"cheap": 1000.0, "gone": 7.0}
    save(tmp_path / "fixed", {"cheap": 0.4, "gone": 0.1}, settings={"output_tokens": lengths})
    assert loaded(tmp_path).expected_output_tokens() == {"cheap": 1000.0}
    assert loaded(tmp_path / "nowhere").expected_output_tokens() == {}
