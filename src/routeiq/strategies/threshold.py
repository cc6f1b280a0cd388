"""Two models and a cut: the strong one where its chance of a better answer is high enough. RouteLLM's idea.

The win rate of the strong model is 0.5 + (P(strong is good) - P(weak is good)) / 2: the probability that its
answer is better, ties counted half, when the two fail independently. The probabilities come from any strategy
that predicts quality (`using`): `prior`, or a learned one with an artifact trained on your data.

A win rate has no natural cut: what share of the traffic a cut sends to the strong model depends on the predictor
and on the traffic. So either calibrate one (`calibrate_threshold`, `routeiq models calibrate --strong-share`),
or give the share itself and let the strategy keep the cut at that quantile of what it has seen lately.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from routeiq.base import Ask, RoutingStrategy
from routeiq.base import Options as BaseOptions
from routeiq.exceptions import ConfigError, Problem
from routeiq.registry import strategy_class
from routeiq.types import (
    Candidate,
    Deployment,
    JsonObject,
    LoadContext,
    RoutingRequest,
    StrategyTraits,
)

from .prior import difficulty
from .quality import quality

WINDOW = 1000
"""Win rates that the running quantile for `strong_share` looks back on."""
ENOUGH = 50
"""Win rates before the quantile is used; until then the hardest `strong_share` by difficulty is strong."""


def win_rate(strong: float, weak: float) -> float:
    """The strong model's chance of the better answer, ties counted half, from two probabilities."""
    return 0.5 + (strong - weak) / 2.0


def calibrate_threshold(win_rates: Sequence[float], strong_share: float) -> float:
    """The cut at which `strong_share` of these requests go to the strong model (those at or above it).

    Of requests with equal win rates either all or none are strong: the cut is the lowest that sends no more than
    the share. A share of 0 gives a cut above every win rate, a share of 1 the lowest of them.

    Args:
        win_rates: one for each request of a sample of the traffic, in any order.
        strong_share: in [0, 1].

    Raises:
        ValueError: no win rates, or the share is not in [0, 1].
    """
    if not win_rates:
        raise ValueError("calibration needs at least one win rate.")
    if not 0.0 <= strong_share <= 1.0:
        raise ValueError(f"the strong share must be in [0, 1], not {strong_share!r}.")
    return _cut(sorted(win_rates), strong_share)


def _cut(ascending: Sequence[float], share: float) -> float:
    count = len(ascending)
    first = count - int(share * count + 1e-9)
    if first >= count:
        return ascending[-1] + 1e-9
    cut = ascending[first]
    if first and ascending[first - 1] == cut:  # only part of the equal ones fits: take none
        above = next((value for value in ascending[first:] if value > cut), None)
        return cut + 1e-9 if above is None else above
    return cut


class ThresholdStrategy(RoutingStrategy):
    """The strong model where its win rate reaches the cut, else the weak one; all others follow by quality."""

    name: ClassVar[str] = "threshold"
    traits: ClassVar[StrategyTraits] = StrategyTraits(scores="preference")

    class Options(BaseOptions):
        """Options of `threshold`."""

        strong: str | None = None
        """Model group (or upstream model) of the strong model; by default the candidate of best quality."""
        weak: str | None = None
        """The weak one; by default the candidate that is predicted to cost least."""
        threshold: Annotated[float, Field(ge=0.0, le=1.0 + 1e-6)] | None = None
        """Win rate from which the strong model is used. 0.5 + half the quality that it must add."""
        strong_share: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
        """Share of the traffic that goes to the strong model, instead of `threshold`; 0.5 if neither is given."""
        using: str = "prior"
        """Strategy that predicts the two qualities: `prior`, `hybrid`, `mf` ..."""
        artifact: str | None = None
        """Artifact of a learned `using`; by default the active one."""

        @field_validator("using")
        @classmethod
        def _is_another(cls, using: str) -> str:
            if using == "threshold":
                raise ValueError("must be another strategy")
            return using

        @model_validator(mode="after")
        def _has_one_cut(self) -> Any:
            if self.threshold is not None and self.strong_share is not None:
                raise ValueError("give `threshold` or `strong_share`, not both")
            return self

    def __init__(self, options: object = None) -> None:
        super().__init__(options)
        self._predictor: RoutingStrategy | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._ascending: list[float] = []
        self._last: tuple[RoutingRequest | None, str] = (None, "")

    def load(self, context: LoadContext) -> None:
        """Make and load the strategy that predicts.

        Raises:
            ConfigError: it does not exist, predicts no quality, takes no artifact or cannot use it.
        """
        predictor = self._made()
        predictor.load(context)
        self._predictor = predictor

    def _made(self) -> RoutingStrategy:
        found = strategy_class(self.options.using, key="options.using")
        given = {} if self.options.artifact is None else {"artifact": self.options.artifact}
        if found.traits.scores != "quality":
            message = f"strategy {self.options.using!r} does not predict quality."
        elif given and "artifact" not in found.Options.model_fields:
            message = f"strategy {self.options.using!r} takes no artifact."
        else:
            strategy: RoutingStrategy = found(found.Options(**given))
            return strategy
        fix = "Use prior, hybrid or another learned strategy."
        raise ConfigError([Problem(key="options.using", message=message, fix=fix)])

    def reload(self, context: LoadContext) -> bool:
        """Let the predictor take a new artifact; what was seen with the old one is forgotten."""
        changed = self._predictor is not None and self._predictor.reload(context)
        if changed:
            self._recent.clear()
            self._ascending.clear()
        return changed

    def close(self) -> None:
        """Close the predictor."""
        if self._predictor is not None:
            self._predictor.close()

    @property
    def prepares(self) -> bool:
        """Whether the predictor does."""
        return self._predictor is not None and self._predictor.prepares

    async def prepare(self, request: RoutingRequest, ask: Ask) -> None:
        """Let the predictor prepare."""
        if self._predictor is not None:
            await self._predictor.prepare(request, ask)

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """3 for the chosen one of the pair, 2 for the other, predicted quality for the rest."""
        if self._predictor is None:
            self._predictor = self._made()
        predicted = list(self._predictor.score(request, candidates))
        strong = self._place(self.options.strong, candidates, predicted, strongest=True)
        weak = self._place(self.options.weak, candidates, predicted, strongest=False)
        if strong == weak:
            self._last = (request, "no pair to choose from")
            predicted[strong] = 3.0
            return predicted
        rate = win_rate(predicted[strong], predicted[weak])
        chosen, other = (strong, weak) if self._is_strong(request, rate) else (weak, strong)
        predicted[chosen], predicted[other] = 3.0, 2.0
        return predicted

    def explain(self, request: RoutingRequest) -> str:
        """The win rate and the cut, and what the predictor saw."""
        said = self._predictor.explain(request) if self._predictor is not None else ""
        mine = self._last[1] if self._last[0] is request else ""
        return "; ".join(part for part in (mine, said) if part)

    def report(self) -> JsonObject:
        """The cut in use, the share it has sent to the strong model lately, and the predictor's report."""
        predictor = self._predictor
        cut = self.options.threshold
        if cut is None and len(self._ascending) >= ENOUGH:
            cut = _cut(self._ascending, self._share)
        above = len(self._ascending) - bisect_left(self._ascending, cut) if cut is not None else 0
        return {
            "threshold": cut,
            "strong_share": above / len(self._ascending) if self._ascending else None,
            "using": self.options.using,
            "predictor": {} if predictor is None else predictor.report(),
        }

    @property
    def _share(self) -> float:
        share: float | None = self.options.strong_share
        return 0.5 if share is None else share

    def _place(
        self,
        name: str | None,
        candidates: Sequence[Candidate],
        predicted: Sequence[float],
        *,
        strongest: bool,
    ) -> int:
        """The candidate with this name, else the one that would be called so."""
        if name is not None:
            for index, candidate in enumerate(candidates):
                if name in (candidate.deployment.group, candidate.deployment.model):
                    return index
        if strongest:
            return max(range(len(candidates)), key=lambda i: _general(candidates[i].deployment))
        costs = [_cost(candidate) for candidate in candidates]
        return min(range(len(candidates)), key=lambda i: (costs[i], predicted[i]))

    def _is_strong(self, request: RoutingRequest, rate: float) -> bool:
        threshold = self.options.threshold
        if threshold is not None:
            self._last = (request, f"win rate {rate:.3f}, threshold {threshold:g}")
            self._remember(rate)
            return rate >= float(threshold)
        share = self._share
        if len(self._ascending) < ENOUGH:
            hard = difficulty(request)
            self._last = (request, f"difficulty {hard:.2f}, strong share {share:g} not yet known")
            strong = hard >= 1.0 - share
        else:
            cut = _cut(self._ascending, share)
            self._last = (
                request,
                f"win rate {rate:.3f}, {cut:.3f} for a strong share of {share:g}",
            )
            strong = rate >= cut
        self._remember(rate)
        return strong

    def _remember(self, rate: float) -> None:
        if len(self._recent) == WINDOW:
            del self._ascending[bisect_left(self._ascending, self._recent[0])]
        self._recent.append(rate)
        insort(self._ascending, rate)


def _general(deployment: Deployment) -> float:
    return quality(deployment.facts, deployment.model)


def _cost(candidate: Candidate) -> float:
    """An unknown cost is no reason to call a model the weak one."""
    return float("inf") if candidate.cost_usd is None else candidate.cost_usd
