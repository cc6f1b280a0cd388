"""The admin API's part on control state: the active strategy, breakers by hand, reloads, workers, audit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, ValidationError

from routeiq.config.loader import inspect_config
from routeiq.config.section import StrategyChoice
from routeiq.exceptions import ConfigError, Conflict, InvalidRequest, NotFound
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.control import BREAKERS, STRATEGY
from routeiq.gateway.query import whole_number
from routeiq.gateway.small_body import small_json
from routeiq.gateway.state_errors import unavailable
from routeiq.gateway.versions import as_precondition, etag, expected_version
from routeiq.stores import Change, Document, Worker
from routeiq.types import JsonObject

if TYPE_CHECKING:
    from routeiq.gateway.runtime import Runtime

BASE = "/routeiq/v1"
Model = TypeVar("Model", bound=BaseModel)


class Override(BaseModel):
    """A breaker by hand: `drain` lets nothing through, `closed` lets everything, null leaves it to itself."""

    model_config = ConfigDict(extra="forbid")

    override: Literal["drain", "closed"] | None


class ControlApi:
    """Handlers. A change is stored before it is answered; every worker applies it in under a second."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._process = runtime.process
        self._documents = runtime.process.state.documents

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {
            f"{BASE}/strategies/active": {
                "GET": self.strategy,
                "PUT": self.set_strategy,
                "DELETE": self.reset_strategy,
            },
            f"{BASE}/breakers": {"GET": self.breakers},
            f"{BASE}/breakers/{{deployment}}": {"PUT": self.set_breaker},
            f"{BASE}/config/reload": {"POST": self.reload},
            f"{BASE}/config/validate": {"POST": self.validate},
            f"{BASE}/workers": {"GET": self.workers},
            f"{BASE}/audit": {"GET": self.audit},
        }

    async def strategy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The strategy of `auto`: what was set here, and what is in force in this worker."""
        await self._runtime.authenticator.require(scope["headers"], "strategies.read")
        document = await unavailable(self._documents.read(STRATEGY))
        await self._answer_strategy(send, document)

    async def set_strategy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Use another strategy from now on, everywhere."""
        change = await self._change(scope, "strategies.write", "strategies.activate", "auto")
        choice = parsed(StrategyChoice, await small_json(scope, receive))
        try:
            await asyncio.to_thread(self._runtime.router.ensure, choice)
        except ConfigError as error:
            said = "; ".join(map(str, error.problems))
            raise InvalidRequest(f"This strategy cannot be used: {said}", param="name") from error
        document = await self._write(scope, STRATEGY, choice.model_dump(mode="json"), change)
        await self._answer_strategy(send, document)

    async def reset_strategy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Back to what is configured."""
        change = await self._change(scope, "strategies.write", "strategies.reset", "auto")
        await self._answer_strategy(send, await self._write(scope, STRATEGY, None, change))

    async def _answer_strategy(self, send: Send, document: Document) -> None:
        body = {
            "override": document.body,
            "version": document.version,
            "active": self._runtime.router.strategy_name,
            "problem": self._process.control_problems().get(STRATEGY),
        }
        await respond_json(send, body, headers=[etag(document.version)])

    async def breakers(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every breaker that is not plainly closed, and what was set by hand."""
        await self._runtime.authenticator.require(scope["headers"], "breakers.read")
        document = await unavailable(self._documents.read(BREAKERS))
        body = {
            "data": self._process.breakers.snapshot(),
            "overrides": document.body or {},
            "version": document.version,
        }
        await respond_json(send, body, headers=[etag(document.version)])

    async def set_breaker(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drain a deployment, force its breaker closed, or leave it to itself again."""
        name = scope["path_params"]["deployment"]
        change = await self._change(scope, "breakers.write", "breakers.override", name)
        if name not in {one.id for one in self._runtime.resolved.deployments}:
            raise NotFound(f"There is no deployment {name[:100]!r}.")
        override = parsed(Override, await small_json(scope, receive)).override
        document = await unavailable(self._documents.read(BREAKERS))
        body = {**(document.body or {}), name: override}
        kept = {key: value for key, value in body.items() if value is not None}
        written = await self._write(scope, BREAKERS, kept, change, seen=document.version)
        await respond_json(
            send,
            {"deployment": name, "override": override, "version": written.version},
            headers=[etag(written.version)],
        )

    async def reload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read config.yaml again, here and in every other worker."""
        change = await self._change(scope, "config.write", "config.reload", "config")
        try:
            config = await self._process.reload("the admin API")
        except ConfigError as error:
            said = "; ".join(str(problem) for problem in error.problems)
            raise InvalidRequest(f"The configuration cannot be used: {said}") from error
        await self._process.audit(change)
        told = {"digest": config.digest, "worker": self._process.worker}
        await self._process.announce("reload", told)
        await respond_json(send, {"digest": config.digest, "source": config.source})

    async def validate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whether the configuration as it stands on disk now could be loaded, and what is wrong with it."""
        await self._runtime.authenticator.require(scope["headers"], "config.read")
        source = self._runtime.config.source
        path = None if source == "environment" else source
        config, problems = await asyncio.to_thread(inspect_config, path, os.environ)
        ok = config is not None and not any(one.severity == "error" for one in problems)
        await respond_json(
            send,
            {
                "ok": ok,
                "digest": None if config is None else config.digest,
                "problems": [str(one) for one in problems],
            },
        )

    async def workers(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every worker of every host, and what it has applied."""
        await self._runtime.authenticator.require(scope["headers"], "status.read")
        workers = await unavailable(self._process.state.roster.all())
        await respond_json(send, workers_report(workers))

    async def audit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Who changed what, newest first."""
        await self._runtime.authenticator.require(scope["headers"], "audit.read")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        limit = number(query, "limit", 100, 1000)
        before = number(query, "before", None, 2**62)
        rows = await unavailable(
            self._process.state.audit.latest(limit=limit or 100, before=before)
        )
        await respond_json(send, {"data": list(rows)})

    async def _change(self, scope: Scope, permission: str, action: str, target: str) -> Change:
        principal = await self._runtime.authenticator.require(scope["headers"], permission)
        return Change(
            actor=principal.alias, action=action, target=target, request_id=scope["request_id"]
        )

    async def _write(
        self,
        scope: Scope,
        name: str,
        body: JsonObject | None,
        change: Change,
        *,
        seen: int | None = None,
    ) -> Document:
        """Store and announce. `seen` is the version that the new body was made from."""
        expected = expected_version(scope)
        wanted = seen if expected is None else expected
        try:
            document = await unavailable(self._documents.write(name, body, change, expected=wanted))
        except Conflict as error:
            raise as_precondition(error, expected) from error
        await self._process.control_changed(name, document.version)
        return document


def parsed(model: type[Model], body: JsonObject) -> Model:
    """The body as a model.

    Raises:
        InvalidRequest: it does not fit; names the field.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"`{where}`: {first['msg']}.", param=where or None) from error


def number(query: dict[str, list[str]], name: str, default: int | None, most: int) -> int | None:
    """A whole number from the query, from 1 on.

    Raises:
        InvalidRequest: it is none, or too large.
    """
    return whole_number(name, query[name][0], most) if name in query else default


def workers_report(workers: Sequence[Worker]) -> dict[str, Any]:
    """The workers, and whether all have applied the same."""
    generations = {one.generation for one in workers}
    configs = {one.config for one in workers}
    return {
        "data": list(workers),
        "generation": max(generations, default=0),
        "agreed": len(generations) <= 1 and len(configs) <= 1,
    }
