"""Asks cheap models first and stronger ones only where the cheap answers do not hold.

Opt-in, and only for answers that can be checked: choices, numbers, short facts, JSON. Each rejected answer is paid
for and waited for. On MMLU-Pro two cheap models that must agree beat a router at the cost of the best single
model by 1.6 points (measured before this was written; see docs/how-to/cascade.md); on prose a cascade only
costs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from routeiq.base import Options as BaseOptions
from routeiq.types import (
    Candidate,
    Capability,
    Deployment,
    JsonObject,
    RoutingRequest,
    StrategyTraits,
)

from .agreement import agree, answer_text, has_tool_calls, usable
from .cost_aware import cheapest_good
from .lexicon import MATHS, QUANTITIES
from .prior import PriorStrategy

_OPTIONS = re.compile(r"(?:^|\n)\s*\(?A[.):].*\n\s*\(?B[.):]", re.DOTALL)
_JSON = frozenset({Capability.JSON_OBJECT, Capability.JSON_SCHEMA})
_LENGTHY = frozenset({Capability.TOOLS, Capability.AUDIO_OUTPUT})


class CascadeStrategy(PriorStrategy):
    """The cheapest models first, the best one last; `accept` decides after each answer.

    `agreement`: an answer is taken when it says the same as one before it. `verifier`: the first answer is taken
    that is not empty, cut off or a refusal and is JSON where JSON was asked for. Requests that are streamed,
    bring tools, ask for several answers or (in `agreement`) do not look checkable are not cascaded: they go to
    the cheapest model of predicted quality `min_quality`, as with `cost-aware`.
    """

    name: ClassVar[str] = "cascade"
    traits: ClassVar[StrategyTraits] = StrategyTraits(
        scores="preference", verifies=True, maturity="experimental"
    )

    class Options(BaseOptions):
        """Options of `cascade`."""

        mode: Literal["agreement", "verifier"] = "agreement"
        """How an answer is checked."""
        max_calls: Annotated[int, Field(ge=2, le=5)] = 3
        """Models that may be asked for one request; the last of them is the best one."""
        min_quality: Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
        """For requests that are not cascaded: predicted quality that is good enough."""

    def score(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Places on the ladder: the `max_calls` - 1 cheapest, then the best, then the rest by quality."""
        predicted = super().score(request, candidates)
        if not self.cascades(request):
            return cheapest_good(predicted, candidates, self.options.min_quality)
        count = len(candidates)
        best = max(range(count), key=predicted.__getitem__)
        by_cost = sorted((i for i in range(count) if i != best), key=_cost_of(candidates))
        cheap = by_cost[: self.options.max_calls - 1]
        rest = sorted(
            by_cost[self.options.max_calls - 1 :], key=predicted.__getitem__, reverse=True
        )
        scores = [0.0] * count
        for place, index in enumerate([*cheap, best, *rest]):
            scores[index] = float(count - place)
        return scores

    def cascades(self, request: RoutingRequest) -> bool:
        """Whether this request's answers are checked before the client sees one."""
        if request.stream or request.choices > 1 or request.operation == "embeddings":
            return False
        if request.needs & _LENGTHY:
            return False
        return self.options.mode == "verifier" or _is_checkable(request, self._signs(request))

    def accept(
        self, request: RoutingRequest, answers: Sequence[tuple[Deployment, JsonObject]]
    ) -> bool:
        """Whether the last answer holds; after `max_calls` answers the last one always does."""
        if not self.cascades(request) or len(answers) >= self.options.max_calls:
            return True
        body = answers[-1][1]
        if has_tool_calls(body):
            return True
        if not usable(request, body):
            return False
        if self.options.mode == "verifier":
            return True
        numeric = _is_numeric(self._signs(request))
        text = answer_text(body)
        return any(agree(text, answer_text(one), numeric=numeric) for _, one in answers[:-1])

    def explain(self, request: RoutingRequest) -> str:
        """Whether and how this request is cascaded."""
        if self.cascades(request):
            return f"cascade by {self.options.mode}, at most {self.options.max_calls} calls"
        return f"not cascaded, {super().explain(request)}"

    def _signs(self, request: RoutingRequest) -> tuple[str, ...]:
        return self._seen(request)[1]


def _cost_of(candidates: Sequence[Candidate]) -> Callable[[int], float]:
    """An unknown cost counts as the dearest known one."""
    dearest = max((c.cost_usd for c in candidates if c.cost_usd is not None), default=0.0)

    def cost(index: int) -> float:
        known = candidates[index].cost_usd
        return dearest if known is None else known

    return cost


def _is_checkable(request: RoutingRequest, signs: Sequence[str]) -> bool:
    """Whether the answer will likely be JSON, a choice, a number or a short fact."""
    if request.needs & _JSON or _is_numeric(signs):
        return True
    return _OPTIONS.search(request.text) is not None


def _is_numeric(signs: Sequence[str]) -> bool:
    return MATHS in signs or QUANTITIES in signs
