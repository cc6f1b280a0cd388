"""The calling part of the gateway on a scripted HTTP client: no sockets, no sleeps."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routeiq.config.model import Config, DeploymentConfig, RouterConfig
from routeiq.config.settings import Settings
from routeiq.exceptions import UpstreamError
from routeiq.gateway.attempt import Attempts
from routeiq.gateway.caller import Caller
from routeiq.gateway.runtime import build, call_settings
from routeiq.gateway.trace import Trace
from routeiq.ports import Header, Timeouts
from routeiq.resilience.retry import RetryBudget, RetryPolicy
from routeiq.types import JsonObject, RoutingRequest
from tests.support.clock import FakeClock

JSON: Header = (b"content-type", b"application/json")
EVENTS: Header = (b"content-type", b"text/event-stream")
ANSWER = b'{"usage":{"prompt_tokens":5,"completion_tokens":7},"choices":[]}'


@dataclass
class Answer:
    """What a scripted provider answers; a piece may be an error or None, which never comes."""

    status: int = 200
    headers: Sequence[Header] = (JSON,)
    pieces: Sequence[bytes | UpstreamError | None] = (ANSWER,)
    closed: bool = False
    complete: bool = False

    async def read(self, limit: int | None = None) -> bytes:
        return b"".join([piece async for piece in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if piece is None:
                await asyncio.Event().wait()
            elif isinstance(piece, UpstreamError):
                raise piece
            else:
                yield piece

    def close(self) -> None:
        self.closed = True


def stream(*pieces: bytes | UpstreamError | None) -> Answer:
    return Answer(headers=(EVENTS,), pieces=pieces)


def refusal(status: int, text: str = "no", **headers: str) -> Answer:
    body = json.dumps({"error": {"message": text}}).encode()
    more = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Answer(status=status, headers=(JSON, *more), pieces=(body,))


Step = Answer | Exception | None


@dataclass
class ScriptedClient:
    """Implements `ports.HttpClient`: each model has its steps, the last of which repeats; None hangs."""

    script: dict[str, list[Step]]
    calls: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    async def send(
        self, method: str, url: str, headers: Sequence[Header], body: bytes, timeouts: Timeouts
    ) -> Answer:
        model = json.loads(body)["model"]
        self.calls.append(model)
        steps = self.script[model]
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        try:
            if step is None:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(model)
            raise
        if isinstance(step, Answer):
            return step
        raise step or AssertionError("the wait never ends")

    async def close(self) -> None:
        """Nothing to close."""


class Rig:
    """Router, breakers, load and caller over the given deployments (`group` to models, in order)."""

    def __init__(
        self,
        script: Mapping[str, list[Step]],
        groups: Mapping[str, tuple[str, ...]],
        *,
        router: RouterConfig | None = None,
        threshold: int = 5,
        hedge_after_s: float | None = None,
        budget: float = 1.0,
        facts: dict[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.client = ScriptedClient(defaultdict(lambda: [Answer()], script))
        places = [
            (group, model, at) for group, names in groups.items() for at, model in enumerate(names)
        ]
        extra = facts or {}
        config = Config(
            settings=Settings(cb_failure_threshold=threshold),
            deployments=tuple(
                DeploymentConfig(
                    key=f"model_list[{model}]",
                    id=model,
                    group=group,
                    model=f"openai/{model}",
                    api_base="http://provider.example/v1",
                    api_key="sk-provider",
                    order=at,
                    timeout_s=timeout_s,
                    **({"facts": extra[model]} if model in extra else {}),
                )
                for group, model, at in places
            ),
            router=router or RouterConfig(),
            master_key="sk-master",
        )
        self.runtime = build(config, clock=self.clock, rng=random.Random(7))
        settings = {one.id: call_settings(one, config) for one in config.deployments}
        self.attempts = Attempts(
            client=self.client,
            upstreams=self.runtime.resolved.upstreams,
            settings=settings,
            breakers=self.runtime.breakers,
            load=self.runtime.load,
            clock=self.clock,
        )
        self.caller = Caller(
            router=self.runtime.router,
            catalog=self.runtime.catalog,
            attempts=self.attempts,
            settings=settings,
            breakers=self.runtime.breakers,
            policy=RetryPolicy(base_s=0.0, max_s=1.0),
            budget=RetryBudget(share=budget, clock=self.clock),
            max_fallbacks=config.router.max_fallbacks,
            hedge_after_s=hedge_after_s,
        )

    def request(
        self, model: str, *, stream: bool = False
    ) -> tuple[Trace, RoutingRequest, JsonObject]:
        """A request that has been parsed, and its trace."""
        body: JsonObject = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if stream:
            body["stream"] = True
        request = RoutingRequest(id="req", operation="chat", model=model, text="hi", stream=stream)
        trace = Trace(request_id="req", operation="chat", clock=self.clock)
        trace.request = request
        return trace, request, body

    async def call(self, model: str, *, stream: bool = False) -> tuple[Any, Trace]:
        """Decide and call; the result and the trace."""
        trace, request, body = self.request(model, stream=stream)
        trace.decision = self.caller.decide(request)
        return await self.caller.call(trace, request, body), trace

    def in_flight(self) -> dict[str, int]:
        """Calls under way by deployment, where there are any."""
        ids = [one.id for one in self.runtime.resolved.deployments]
        counts = {id: self.runtime.load.of(id).in_flight for id in ids}
        return {id: count for id, count in counts.items() if count}
