"""The admin API's part on experiments."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qs

from pydantic import TypeAdapter, ValidationError

from routeiq.access.principal import Principal
from routeiq.config.experiments import Experiment, Name
from routeiq.exceptions import (
    Conflict,
    InvalidRequest,
    PreconditionFailed,
    Problem,
    StateUnavailable,
    StoreUnavailable,
)
from routeiq.experiments.definitions import (
    DOCUMENT,
    Definition,
    Names,
    as_json,
    merge,
    problems_of,
)
from routeiq.experiments.editing import Editor, absent
from routeiq.experiments.exposure import group
from routeiq.experiments.results import report
from routeiq.experiments.schedule import Schedule
from routeiq.gateway.asgi import Handler, Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.small_body import small_json
from routeiq.gateway.versions import etag, expected_version
from routeiq.ports import Clock, Header
from routeiq.stores import Change, Counters, Document, Documents
from routeiq.types import JsonObject

BASE = "/routeiq/v1/experiments"
_TRIES = 5
_RETRY_S = 1.0
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_WAY_OUT = "Look at it again (GET), then repeat the change with the ETag that it has now."


class Requires(Protocol):
    """What is asked of the authenticator."""

    async def require(self, headers: Iterable[Header], permission: str) -> Principal:
        """The caller, if that is allowed."""
        ...


def _stored(handler: Handler) -> Handler:
    """A store that is down is the caller's to know."""

    @wraps(handler)
    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await handler(scope, receive, send)
        except StoreUnavailable as error:
            message = "Experiments cannot be read or changed now: the store cannot be reached."
            raise StateUnavailable(message, retry_after_s=_RETRY_S) from error

    return answered


class ExperimentsApi:
    """Handlers. Changes go through the control document, by compare-and-set.

    Args:
        authenticator: says who may (`experiments.read`, `experiments.write`).
        documents: has the control document.
        counters: has what was counted.
        clock: the wall clock says what runs.
        declared: the experiments of config.yaml as it is now.
        names: what variants may name.
        announce: awaited after a change, so that this worker has it at once.
    """

    def __init__(
        self,
        *,
        authenticator: Requires,
        documents: Documents,
        counters: Counters,
        clock: Clock,
        declared: Callable[[], Mapping[str, Experiment]],
        names: Callable[[], Names],
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self._authenticator = authenticator
        self._documents = documents
        self._counters = counters
        self._wall = clock.wall
        self._declared = declared
        self._names = names
        self._announce = announce

    def routes(self) -> Routes:
        """Path to method to handler."""
        one = f"{BASE}/{{name}}"
        routes: Routes = {
            BASE: {"GET": self.every, "POST": self.create},
            one: {"GET": self.get, "PUT": self.put, "DELETE": self.delete},
            f"{one}/results": {"GET": self.results},
        }
        for action in ("start", "stop", "reset"):
            routes[f"{one}/{action}"] = {"POST": getattr(self, action)}
        return {path: {m: _stored(h) for m, h in by.items()} for path, by in routes.items()}

    async def every(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every experiment, and what is wrong with those that cannot be used."""
        await self._authenticator.require(scope["headers"], "experiments.read")
        document = await self._documents.read(DOCUMENT)
        found, problems = self._merged(document.body)
        body = {
            "data": [self._shown(one) for _, one in sorted(found.items())],
            "problems": [str(problem) for problem in problems],
            "version": document.version,
        }
        await respond_json(send, body, headers=[etag(document.version)])

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One experiment."""
        await self._authenticator.require(scope["headers"], "experiments.read")
        await self._respond(send, await self._documents.read(DOCUMENT), _named(scope))

    async def results(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What came of it; `?confidence=0.99` for another than 0.95."""
        await self._authenticator.require(scope["headers"], "experiments.read")
        name, confidence = _named(scope), _confidence(scope)
        found, _ = self._merged((await self._documents.read(DOCUMENT)).body)
        if name not in found:
            raise absent(name)
        fields = await self._counters.read(group(name))
        # A millisecond or two of arithmetic: not on the event loop.
        shown = await asyncio.to_thread(report, found[name], fields, self._wall(), confidence)
        await respond_json(send, shown)

    async def create(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Define one: its `name` and what config.yaml takes. Without `start` it starts now."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        body = await small_json(scope, receive)
        name = _new_name(body.pop("name", None))
        experiment = self._experiment(name, body)
        if name not in self._merged((await self._documents.read(DOCUMENT)).body)[0]:
            await self._counters.delete(group(name))  # of one that had the name before
        await self._change(
            scope, send, principal, "create", name, lambda e: e.create(name, experiment), status=201
        )

    async def put(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Define one anew."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        name = _named(scope)
        experiment = self._experiment(name, await small_json(scope, receive))
        await self._change(
            scope, send, principal, "update", name, lambda e: e.replace(name, experiment)
        )

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Remove one, and what was counted."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        name = _named(scope)
        document = await self._written(scope, principal, "delete", name, lambda e: e.delete(name))
        await self._counters.delete(group(name))
        await respond_json(send, {"name": name, "deleted": True}, headers=[etag(document.version)])

    async def start(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one run, from now on at the latest."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        name = _named(scope)
        await self._change(scope, send, principal, "start", name, lambda e: e.start(name))

    async def stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Assign nobody any more."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        name = _named(scope)
        await self._change(scope, send, principal, "stop", name, lambda e: e.stop(name))

    async def reset(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forget what was counted, and which variants a guard stopped."""
        principal = await self._authenticator.require(scope["headers"], "experiments.write")
        name = _named(scope)
        document = await self._written(scope, principal, "reset", name, lambda e: e.reset(name))
        await self._counters.delete(group(name))
        await self._respond(send, document, name)

    async def _change(
        self,
        scope: Scope,
        send: Send,
        principal: Principal,
        action: str,
        name: str,
        edit: Callable[[Editor], JsonObject],
        *,
        status: int = 200,
    ) -> None:
        document = await self._written(scope, principal, action, name, edit)
        await self._respond(send, document, name, status)

    async def _written(
        self,
        scope: Scope,
        principal: Principal,
        action: str,
        name: str,
        edit: Callable[[Editor], JsonObject],
    ) -> Document:
        """Change the document; without `If-Match` again where somebody else was quicker."""
        wanted = expected_version(scope)
        for last in range(_TRIES):
            document = await self._documents.read(DOCUMENT)
            if wanted is not None and wanted != document.version:
                raise PreconditionFailed(
                    f"Experiments have changed: version {document.version}, not {wanted}. {_WAY_OUT}"
                )
            found, known = self._merged(document.body)
            body = edit(Editor(document.body, found, self._wall()))
            self._refuse_new(self._merged(body)[1], known)
            change = Change(
                actor=principal.alias,
                action=f"experiments.{action}",
                target=name,
                details={"definition": body.get("definitions", {}).get(name)},
                request_id=scope.get("request_id"),
            )
            try:
                written = await self._documents.write(
                    DOCUMENT, body, change, expected=document.version
                )
            except Conflict as error:
                if wanted is not None:
                    raise PreconditionFailed(f"Experiments have changed. {_WAY_OUT}") from error
                if last == _TRIES - 1:
                    raise
                continue
            await self._announce()
            return written
        raise AssertionError("the last try returns or raises")

    def _experiment(self, name: str, body: JsonObject) -> Experiment:
        """What was sent; without `start` it has none yet, but is checked as if it started now."""
        undated = body.get("start") is None
        if undated:
            body = {**body, "start": datetime.fromtimestamp(self._wall(), UTC)}
        try:
            experiment = Experiment.model_validate(body)
        except ValidationError as error:
            _refuse(problems_of(name, error))
        return experiment.model_copy(update={"start": None}) if undated else experiment

    def _merged(self, body: JsonObject | None) -> tuple[dict[str, Definition], list[Problem]]:
        return merge(self._declared(), body, self._names())

    def _refuse_new(self, problems: list[Problem], known: list[Problem]) -> None:
        """A change may leave a problem that was there; it may not bring one."""
        new = [problem for problem in problems if problem not in known]
        if new:
            _refuse(new)

    async def _respond(self, send: Send, document: Document, name: str, status: int = 200) -> None:
        found, _ = self._merged(document.body)
        if name not in found:
            raise absent(name)
        shown = {**self._shown(found[name]), "version": document.version}
        await respond_json(send, shown, status=status, headers=[etag(document.version)])

    def _shown(self, one: Definition) -> JsonObject:
        return {
            "name": one.name,
            "source": one.source,
            "state": Schedule(one.experiment).state(self._wall()),
            "share": Schedule(one.experiment).share(self._wall()),
            "stopped": dict(one.stopped),
            "definition": as_json(one.experiment),
        }


def _named(scope: Scope) -> str:
    name: str = scope["path_params"]["name"]
    return name


def _new_name(name: Any) -> str:
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        message = "`name` must be 1 to 64 letters, digits, `.`, `_` or `-`."
        raise InvalidRequest(message, param="name") from error


def _refuse(problems: list[Problem]) -> NoReturn:
    param = problems[0].key.removeprefix("routeiq.experiments.")
    raise InvalidRequest(" ".join(str(problem) for problem in problems), param=param)


def _confidence(scope: Scope) -> float:
    given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("confidence")
    if not given:
        return 0.95
    try:
        confidence = float(given[0])
    except ValueError:
        confidence = 0.0
    if not 0.5 < confidence < 1.0:
        raise InvalidRequest("`confidence` must be between 0.5 and 1.", param="confidence")
    return confidence
