"""Getting an answer: attempts in the decision's order, retries, then the configured fallbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import orjson

from routeiq.base import RoutingStrategy
from routeiq.exceptions import (
    ContextLengthExceeded,
    NoHealthyDeployment,
    RequestError,
    UpstreamFailed,
    UpstreamTimedOut,
)
from routeiq.gateway.ask import Asking
from routeiq.gateway.attempt import EGRESS_DENIED, Attempts, CallSettings, Failure, Reply
from routeiq.gateway.trace import Trace
from routeiq.providers.pricing import cost_usd
from routeiq.resilience.breaker import Breakers
from routeiq.resilience.retry import RetryBudget, RetryPolicy, Verdict
from routeiq.routing.catalog import Catalog
from routeiq.routing.router import Router
from routeiq.types import Decision, Deployment, JsonObject, RoutingRequest

FallbackKind = Literal["general", "context_window", "content_policy"]
FALLBACK_KIND: Mapping[Verdict, FallbackKind] = {
    Verdict.RETRY: "general",
    Verdict.AUTH_ERROR: "general",
    Verdict.CONTEXT_WINDOW: "context_window",
    Verdict.CONTENT_POLICY: "content_policy",
}


class Caller:
    """Carries a decision out."""

    def __init__(
        self,
        *,
        router: Router,
        catalog: Catalog,
        attempts: Attempts,
        settings: Mapping[str, CallSettings],
        breakers: Breakers,
        policy: RetryPolicy,
        budget: RetryBudget,
        max_fallbacks: int,
        hedge_after_s: float | None,
    ) -> None:
        self._router = router
        self._catalog = catalog
        self._attempts = attempts
        self._settings = settings
        self._breakers = breakers
        self._policy = policy
        self._budget = budget
        self._max_fallbacks = max_fallbacks
        self._hedge_after_s = hedge_after_s

    def is_slow(self, request: RoutingRequest) -> bool:
        """Whether the decision must leave the event loop; an unknown model is `decide`'s to refuse."""
        try:
            return self._router.is_slow(request)
        except RequestError:
            return False

    async def decide_slowly(self, trace: Trace, request: RoutingRequest) -> Decision:
        """`decide` after the strategy has computed or asked what it needs; that is charged to the request.

        Raises:
            RequestError: as `decide`.
        """
        await self._router.prepare(request, Asking(self._router, self._attempts, trace))
        if self._router.is_cpu_bound(request):
            return await asyncio.to_thread(self.decide, request)
        return self.decide(request)

    def decide(self, request: RoutingRequest) -> Decision:
        """The router's decision; where no deployment of the model can help, that of its first fallback that can.

        Raises:
            RequestError: the router's own, if no fallback helps.
        """
        try:
            return self._router.decide(request)
        except (NoHealthyDeployment, ContextLengthExceeded) as error:
            too_long = isinstance(error, ContextLengthExceeded)
            for model in self._fallbacks(
                request.model, "context_window" if too_long else "general"
            ):
                other = self._decide_other(request, model, frozenset())
                if other is not None:
                    return other
            raise

    def commit(self, request: RoutingRequest, decision: Decision) -> None:
        """The decision is about to be carried out."""
        self._router.commit(request, decision)

    async def call(
        self, trace: Trace, request: RoutingRequest, body: JsonObject
    ) -> Reply | Failure:
        """An answer, or a provider's own 4xx that the client should see.

        Raises:
            UpstreamFailed: every attempt failed.
        """
        self._budget.request()
        result = await self._walk(trace, trace.require_decision(), request, body)
        kind = None if isinstance(result, Reply) else FALLBACK_KIND.get(result.verdict)
        if kind is not None:
            chosen = trace.require_decision().chosen.group
            for model in self._fallbacks(request.model, kind, chosen):
                other = self._decide_other(request, model, frozenset(trace.tried))
                if other is None:
                    continue
                result = await self._walk(trace, other, request, body)
                if isinstance(result, Reply):
                    break
        if isinstance(result, Failure):
            return give_up(result)
        verifier = self._router.verifier_of(request, trace.require_decision())
        if verifier is None or result.response is not None:
            return result
        return await self._verified(trace, verifier, request, body, result)

    async def _verified(
        self,
        trace: Trace,
        verifier: RoutingStrategy,
        request: RoutingRequest,
        body: JsonObject,
        reply: Reply,
    ) -> Reply:
        """The first answer that the strategy accepts; the last one where none is left to ask.

        Every answer is paid for. A model that fails on the way up costs the client nothing: the answer before it
        is given.
        """
        decision = trace.require_decision()
        answers = [(reply.deployment, read_json(reply.body))]
        while not self._router.accepts(verifier, request, answers):
            following = next_group(decision, {one.group for one, _ in answers}, trace.tried)
            if following is None or not self._breakers.allows(following.id):
                break
            result = await self._attempts.make(trace, following, request, body)
            if isinstance(result, Failure):
                break
            if reply.usage is not None:
                trace.charge(cost_usd(reply.deployment.facts, reply.usage))
            trace.rejected += 1
            reply = result
            answers.append((reply.deployment, read_json(reply.body)))
        return reply

    def _fallbacks(self, model: str, kind: FallbackKind, *chosen: str) -> tuple[str, ...]:
        return self._catalog.fallbacks(model, kind, *chosen)[: self._max_fallbacks]

    def _decide_other(
        self, request: RoutingRequest, model: str, exclude: frozenset[str]
    ) -> Decision | None:
        try:
            return self._router.decide(request, exclude=exclude, model=model)
        except RequestError:  # this fallback cannot help; the next one or the first failure will
            return None

    async def _walk(
        self, trace: Trace, decision: Decision, request: RoutingRequest, body: JsonObject
    ) -> Reply | Failure:
        """Attempts along one decision's ranking, then again at the last deployment after a pause."""
        retries = self._settings[decision.chosen.id].max_retries
        target = decision.chosen
        worst: Failure | None = None
        used = 0
        while True:
            if self._hedge_after_s is None:
                result = await self._attempts.make(trace, target, request, body)
            else:
                result = await self._hedged(trace, decision, target, request, body)
            if isinstance(result, Reply):
                return result
            if worst is None or result.status is not None or worst.code == "breaker_open":
                worst = result
            if result.verdict not in FALLBACK_KIND:
                return worst
            following = self._next(trace, decision, result)
            pause = 0.0
            if (
                following is None
                and result.verdict is Verdict.RETRY
                and result.code != "breaker_open"
            ):
                waits = self._policy.pause_s(used, result.retry_after_s)
                if waits is not None:
                    following, pause = result.deployment, waits
            if following is None or used >= retries or not self._budget.take():
                return worst
            target = following
            used += 1
            if pause:
                await asyncio.sleep(pause)

    def _next(self, trace: Trace, decision: Decision, failure: Failure) -> Deployment | None:
        """The next deployment of the ranking that may do better than the one that failed."""
        window = failure.deployment.facts.context_tokens
        for ranked in decision.ranking:
            candidate = ranked.deployment
            if candidate.id in trace.tried or not self._breakers.allows(candidate.id):
                continue
            if failure.verdict is Verdict.CONTENT_POLICY:
                return None  # another deployment of the same choice would most likely refuse too
            if failure.verdict is Verdict.CONTEXT_WINDOW:
                larger = candidate.facts.context_tokens
                if window is None or larger is None or larger <= window:
                    continue
            return candidate
        return None

    async def _hedged(
        self,
        trace: Trace,
        decision: Decision,
        target: Deployment,
        request: RoutingRequest,
        body: JsonObject,
    ) -> Reply | Failure:
        first = asyncio.ensure_future(self._attempts.make(trace, target, request, body))
        try:
            done, _ = await asyncio.wait({first}, timeout=self._hedge_after_s)
            spare = None if done else self._spare(trace, decision)
            if spare is None:
                return await first
            second = asyncio.ensure_future(self._attempts.make(trace, spare, request, body))
        except asyncio.CancelledError:
            self._drop(first)
            raise
        return await self._race(first, second)

    def _spare(self, trace: Trace, decision: Decision) -> Deployment | None:
        for ranked in decision.ranking:
            key = ranked.deployment.id
            if key not in trace.tried and self._breakers.allows(key) and self._budget.take():
                return ranked.deployment
        return None

    async def _race(
        self, first: asyncio.Future[Reply | Failure], second: asyncio.Future[Reply | Failure]
    ) -> Reply | Failure:
        """The first answer of two; the loser is cancelled, or closed if it answered too."""
        try:
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            winner = next((one for one in done if isinstance(one.result(), Reply)), None)
            if winner is None and len(done) == 1:
                await asyncio.wait({first, second})
            if winner is None:
                answered = [one for one in (first, second) if isinstance(one.result(), Reply)]
                winner = answered[0] if answered else first
            self._drop(second if winner is first else first)
            return winner.result()
        except BaseException:  # the client left, or a defect in one: the other must not go on
            self._drop(first)
            self._drop(second)
            raise

    def _drop(self, call: asyncio.Future[Reply | Failure]) -> None:
        """Nobody wants the result any more: cancel the call, or close what it brought."""
        if call.cancel() or call.cancelled() or call.exception() is not None:
            return
        lost = call.result()
        if isinstance(lost, Reply) and lost.response is not None:
            self._attempts.end_stream(lost, broken=False)


def next_group(decision: Decision, asked: set[str], tried: set[str]) -> Deployment | None:
    """The next deployment of a model that has not answered yet."""
    for ranked in decision.ranking:
        if ranked.deployment.group not in asked and ranked.deployment.id not in tried:
            return ranked.deployment
    return None


def read_json(body: bytes) -> JsonObject:
    """A provider's answer; empty where it is no JSON object (it may be compressed)."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def give_up(failure: Failure) -> Failure:
    """What the client sees when nothing helped: the provider's own 4xx, else our 502 or 504.

    A provider's 401 or 403 is about the gateway's key, not the caller's: it never passes through.
    """
    own = failure.status is not None and 400 <= failure.status < 500
    if own and failure.verdict is not Verdict.AUTH_ERROR:
        return failure
    if failure.code == "upstream_timeout" or failure.status in (408, 504):
        raise UpstreamTimedOut("The provider did not answer in time. Try again, or another model.")
    if failure.verdict is Verdict.AUTH_ERROR:
        wrong, check = "The provider refused the API key", "key"
        if failure.code == EGRESS_DENIED:
            wrong, check = "The gateway may not connect to the address", "address"
        elif failure.status == 404:
            wrong, check = "The provider does not know the model", "name and address"
        raise UpstreamFailed(
            f"{wrong} of deployment {failure.deployment.id!r}. The operator must check its {check}."
        )
    raise UpstreamFailed(
        "The provider failed to answer. Try again, or another model.",
        retry_after_s=failure.retry_after_s,
    )
