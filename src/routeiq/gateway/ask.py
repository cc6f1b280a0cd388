"""Asking a configured model on behalf of a strategy: a side call, charged to the request that needs it."""

from __future__ import annotations

import asyncio

import orjson

from routeiq.exceptions import InvalidRequest, UpstreamFailed
from routeiq.gateway.attempt import Attempts, Reply
from routeiq.gateway.trace import Trace
from routeiq.providers.pricing import cost_usd
from routeiq.routing.request import parse_request
from routeiq.routing.router import Router
from routeiq.types import JsonObject


class Asking:
    """`routeiq.base.Ask` for one request. One attempt: a judge that fails is done without."""

    def __init__(self, router: Router, attempts: Attempts, trace: Trace) -> None:
        self._router = router
        self._attempts = attempts
        self._trace = trace

    async def __call__(
        self, model: str, messages: list[JsonObject], *, max_tokens: int, timeout_s: float
    ) -> str:
        """The text of the model's answer.

        Raises:
            RequestError: no such model, it failed, or it did not answer in time.
        """
        body: JsonObject = {"model": model, "messages": messages, "max_tokens": max_tokens}
        body["temperature"] = 0
        request = parse_request("chat", body, id=self._trace.request_id)
        if self._router.is_slow(request):
            raise InvalidRequest(f"A strategy cannot ask {model!r}: it would ask itself.")
        decision = self._router.decide(request)
        side = Trace(request_id=request.id, operation="chat", clock=self._trace.clock)
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._attempts.make(side, decision.chosen, request, body)
        except TimeoutError:
            raise UpstreamFailed(f"{model!r} did not answer within {timeout_s:g} s.") from None
        if not isinstance(result, Reply):
            raise UpstreamFailed(f"{model!r} failed: {result.code}.")
        if result.usage is not None:
            self._trace.charge(cost_usd(result.deployment.facts, result.usage))
        return answer_text(result.body)


def answer_text(body: bytes) -> str:
    """The first choice's text.

    Raises:
        RequestError: it is no chat completion.
    """
    try:
        content = orjson.loads(body)["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise UpstreamFailed("The model's answer was no chat completion.") from error
    return content if isinstance(content, str) else ""
