"""Deployments, requests and a router for tests of the decision."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from routeiq.config.model import Config, RouterConfig
from routeiq.config.section import RouteIQSection
from routeiq.config.settings import Settings
from routeiq.resilience.breaker import Breakers
from routeiq.routing.catalog import Catalog
from routeiq.routing.load import LoadTracker
from routeiq.routing.router import Router
from routeiq.types import Candidate, Deployment, ModelFacts, RoutingRequest
from tests.support.clock import FakeClock


def facts(price: tuple[float, float] | None = None, **known: Any) -> ModelFacts:
    """Model facts; `price` is USD per million tokens, input and output."""
    if price is not None:
        known |= {
            "input_usd_per_token": price[0] * 1e-6,
            "output_usd_per_token": price[1] * 1e-6,
        }
    return ModelFacts(**known)


def deployment(id: str, group: str | None = None, **more: Any) -> Deployment:
    """A deployment; its group is its id unless said otherwise."""
    return Deployment(
        id=id, group=group or id, provider="openai", model=more.pop("model", id), **more
    )


CHEAP = deployment("cheap", facts=facts((0.15, 0.6)))
MIDDLE = deployment("middle", facts=facts((2.0, 8.0)))
STRONG = deployment("strong", facts=facts((15.0, 60.0)))


def candidate(id: str, **more: Any) -> Candidate:
    """A candidate on a plain deployment."""
    return Candidate(deployment=more.pop("of", None) or deployment(id), **more)


def request(text: str = "Hi", model: str = "auto", **more: Any) -> RoutingRequest:
    """A chat request."""
    tokens = more.pop("input_tokens", 100)
    operation = more.pop("operation", "chat")
    return RoutingRequest(
        id="r", operation=operation, model=model, text=text, input_tokens=tokens, **more
    )


class World:
    """A router with everything it looks at, on a fake clock."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        *,
        section: RouteIQSection | None = None,
        router: RouterConfig | None = None,
        strategy: str | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.load = LoadTracker(self.clock)
        self.breakers = Breakers(failure_threshold=1, open_s=30, window_s=60, clock=self.clock)
        config = Config(
            settings=Settings(strategy=strategy),
            router=router or RouterConfig(),
            routeiq=section or RouteIQSection(),
        )
        self.catalog = Catalog(
            deployments, config.router, config.routeiq, lambda provider, model: ModelFacts()
        )
        self.router = Router(
            catalog=self.catalog,
            config=config,
            load=self.load,
            breakers=self.breakers,
            clock=self.clock,
            rng=Random(1),
        )

    def choose(self, text: str = "Hi", model: str = "auto", **more: Any) -> str:
        """The id of the deployment that is chosen."""
        return self.router.decide(request(text, model, **more)).chosen.id

    def order(self, text: str = "Hi", model: str = "auto", **more: Any) -> list[str]:
        """The ids of the whole ranking."""
        decision = self.router.decide(request(text, model, **more))
        return [ranked.deployment.id for ranked in decision.ranking]
