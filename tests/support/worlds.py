"""One worker's gateway on stores in memory and a scripted provider: no sockets, no sleeps."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.section import RouteIQSection
from routeiq.config.settings import Settings
from routeiq.gateway import runtime as runtime_module
from routeiq.gateway.app import Gateway
from routeiq.gateway.asgi import Message
from routeiq.gateway.process import Process
from routeiq.gateway.runtime import Runtime, build
from routeiq.state.bundle import State, memory_state
from routeiq.telemetry.decisions import DecisionLog
from tests.support.clock import FakeClock
from tests.support.upstreams import Answer, ScriptedClient, Step

MASTER = "sk-master-secret"
PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}


@dataclass(frozen=True)
class Answered:
    """What a client got; `status` 0 where it got nothing."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


def deployment(group: str, **changes: Any) -> DeploymentConfig:
    """One of the scripted provider's models, which has the group's name."""
    base: dict[str, Any] = {
        "key": f"model_list[{group}]",
        "id": f"{group}-1",
        "group": group,
        "model": f"openai/{group}",
        "api_base": "http://provider.example/v1",
        "api_key": "sk-upstream-secret",
    }
    return DeploymentConfig(**(base | changes))


def config_of(
    routeiq: Mapping[str, Any] | None = None,
    *,
    groups: tuple[str, ...] = ("small", "large"),
    settings: Settings | None = None,
    **changes: Any,
) -> Config:
    """A configuration with priced models and a master key; `routeiq` is the section as it is written."""
    section = {"prices": dict.fromkeys(groups, PRICE), **(routeiq or {})}
    base: dict[str, Any] = {
        "settings": settings or Settings(master_key=MASTER),
        "deployments": tuple(deployment(group) for group in groups),
        "routeiq": RouteIQSection.model_validate(section),
        "master_key": MASTER,
    }
    return Config(**(base | changes))


class World:
    """A gateway; `client` is its provider, `state` its stores."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        clock: FakeClock,
        config: Config | None = None,
        *,
        state: State | None = None,
        script: Mapping[str, list[Step]] | None = None,
        worker: str = "worker",
    ) -> None:
        self.clock = clock
        self.client = ScriptedClient(defaultdict(lambda: [Answer()], script or {}))
        monkeypatch.setattr(runtime_module, "http_client", lambda *_: self.client)
        config = config or config_of()
        self.state = state or memory_state(clock)
        self.process = Process(config, state=self.state, clock=clock, worker=worker)
        self.gateway = Gateway(self.build(config))

    def build(self, config: Config) -> Runtime:
        return build(config, process=self.process, rng=random.Random(7))

    @property
    def runtime(self) -> Runtime:
        return self.gateway.runtime

    @property
    def decisions(self) -> DecisionLog:
        return self.process.decisions

    async def ask(
        self,
        call: str,
        body: Any = None,
        *,
        key: str = MASTER,
        headers: Mapping[str, str] | None = None,
        connection: object = None,
    ) -> Answered:
        """`METHOD /path?query` through the whole gateway."""
        method, _, target = call.partition(" ")
        path, _, query = target.partition("?")
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"" if body is None else orjson.dumps(body)}

        async def send(message: Message) -> None:
            sent.append(message)

        raw = {"authorization": f"Bearer {key}", **(headers or {})}
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in raw.items()],
        }
        if connection is not None:
            scope["routeiq.connection"] = connection
        await self.gateway.app(scope, receive, send)
        if not sent:
            return Answered(0, {}, b"")
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))

    async def chat(self, model: str = "small", text: str = "hi", **more: Any) -> Answered:
        """A chat request; `more` is for `ask`, but `stream` and `body`."""
        asked: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
        body = asked | more.pop("body", {})
        return await self.ask("POST /v1/chat/completions", body, **more)
