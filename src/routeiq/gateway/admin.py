"""The admin API under `/routeiq/v1/`, as far as it exists: read what runs, ask what would be chosen."""

from __future__ import annotations

import os
from typing import Any

from routeiq._version import __version__
from routeiq.access.principal import Principal
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.body import decompress, parse_json, read_body
from routeiq.gateway.openapi import document
from routeiq.gateway.pipeline import routing_request
from routeiq.gateway.runtime import Runtime, masked
from routeiq.gateway.trace import Trace
from routeiq.registry import BUILTIN_STRATEGIES
from routeiq.telemetry.decisions import decision_details
from routeiq.types import JsonObject

BASE = "/routeiq/v1"


class Admin:
    """Handlers; each authenticates first. `route` also serves ordinary callers: it spends nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {
            f"{BASE}/status": {"GET": self.status},
            f"{BASE}/config": {"GET": self.config},
            f"{BASE}/models": {"GET": self.models},
            f"{BASE}/strategies": {"GET": self.strategies},
            f"{BASE}/route": {"POST": self.route},
            f"{BASE}/openapi.json": {"GET": self.openapi},
        }

    async def status(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What this worker is and how it feels."""
        await self.runtime.authenticator.require(scope["headers"], "status.read")
        admission = self.runtime.admission
        await respond_json(
            send,
            {
                "version": __version__,
                "worker_id": os.getpid(),
                "config": {
                    "source": self.runtime.config.source,
                    "digest": self.runtime.config.digest,
                },
                "draining": admission.draining,
                "in_flight": admission.in_flight,
                "strategy_failures": self.runtime.router.strategy_failures,
                "learning": self.runtime.activation.status(),
                "breakers": self.runtime.breakers.snapshot(),
                **self.runtime.process.status(),
            },
        )

    async def config(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The effective configuration without its secrets."""
        await self.runtime.authenticator.require(scope["headers"], "config.read")
        await respond_json(send, masked(self.runtime.config))

    async def models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every deployment: facts, load, breaker."""
        await self.runtime.authenticator.require(scope["headers"], "models.read")
        await respond_json(
            send, {"data": [self._deployment(d) for d in self.runtime.resolved.deployments]}
        )

    def _deployment(self, deployment: Any) -> dict[str, Any]:
        load = self.runtime.load.of(deployment.id)
        facts = deployment.facts
        return {
            "deployment": deployment.id,
            "model": deployment.group,
            "provider": deployment.provider,
            "upstream_model": deployment.model,
            "lane": deployment.lane,
            "tags": sorted(deployment.tags),
            "region": deployment.region,
            "breaker": self.runtime.breakers.state(deployment.id),
            "in_flight": load.in_flight,
            "first_token_s": load.first_token_s,
            "input_usd_per_token": facts.input_usd_per_token,
            "output_usd_per_token": facts.output_usd_per_token,
            "context_tokens": facts.context_tokens,
            "capabilities": sorted(facts.capabilities) if facts.capabilities is not None else None,
            "quality": facts.quality,
            "facts_from": facts.source,
        }

    async def strategies(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What can be chosen, and what is active."""
        await self.runtime.authenticator.require(scope["headers"], "strategies.read")
        router = self.runtime.router
        await respond_json(
            send,
            {
                "available": sorted(BUILTIN_STRATEGIES),
                "active": router.strategy_name,
                "balancing": router.balancing_name,
                "reports": router.strategy_reports(),
                "failures": router.strategy_failures,
                "suspensions": router.strategy_suspensions,
                "budgets": router.budget_reports(),
            },
        )

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dry run: what would be chosen for this chat request and why. No model is called, nothing is counted."""
        principal = await self.runtime.authenticator.authenticate(scope["headers"])
        limit = self.runtime.config.routeiq.server.max_body_bytes
        body = parse_json(await decompress(scope, await read_body(receive), limit))
        await respond_json(send, explain(self.runtime, scope, body, principal))

    async def openapi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """This API's description."""
        await respond_json(send, document())


def explain(
    runtime: Runtime, scope: Scope, body: JsonObject, principal: Principal
) -> dict[str, Any]:
    """The decision for a chat body of this caller, with everything that led to it.

    Raises:
        RequestError: the body is not a chat request, or nothing could answer it.
    """
    trace = Trace(request_id=scope["request_id"], operation="chat", clock=runtime.clock)
    trace.principal = principal
    request = runtime.gate.enter(trace, routing_request(trace, scope, body))
    decision = runtime.router.decide(request)
    return {
        "requested": decision.requested,
        "model": decision.chosen.group,
        "deployment": decision.chosen.id,
        "strategy": decision.strategy,
        "profile": decision.profile,
        "experiment": request.experiment,
        "variant": request.variant,
        "reason": decision.reason,
        "hint_followed": decision.hint_followed,
        "propensity": decision.propensity,
        "duration_ms": decision.duration_ms,
        "input_tokens": request.input_tokens,
        "needs": sorted(request.needs),
        **decision_details(decision),
    }
