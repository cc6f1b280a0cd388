"""The ASGI application: the routes of the current runtime behind the middleware stack.

A reload puts another runtime in its place. Requests that are under way end on the one that they began on, which is
closed when the last of them has left.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from routeiq.exceptions import RequestError
from routeiq.gateway.asgi import ASGIApp, Receive, Routes, Scope, Send, respond_error
from routeiq.gateway.body import ClientDisconnected
from routeiq.gateway.health import Health
from routeiq.gateway.metrics import Metrics
from routeiq.gateway.middleware import AdmissionMiddleware, BodyLimitMiddleware, RequestIDMiddleware
from routeiq.gateway.models import Models
from routeiq.gateway.routes import RouteTable
from routeiq.gateway.runtime import Runtime
from routeiq.gateway.services import admin_routes
from routeiq.types import Operation

logger = logging.getLogger("routeiq.gateway")
CLOSED_S = 1.0
"""For the counts of replaced runtimes when the worker ends."""
RETRY_S = 1.0

OPERATIONS: dict[str, Operation] = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/responses": "responses",
}


class InternalError(RequestError):
    """A defect of ours. The log has the traceback, the client an id to quote."""

    status = 500
    type = "server_error"
    code = "internal_error"


class Generation:
    """One runtime with its routes, and how many requests are on it."""

    __slots__ = ("in_flight", "retired", "routes", "runtime")

    def __init__(self, runtime: Runtime, health: Health) -> None:
        self.runtime = runtime
        self.in_flight = 0
        self.retired = False
        models = Models(runtime)
        routes: Routes = {}
        for prefix in ("", "/v1"):
            for path, operation in OPERATIONS.items():
                routes[prefix + path] = {"POST": partial(runtime.pipeline.handle, operation)}
            routes[prefix + "/models"] = {"GET": models.list}
        routes.update(health.routes())
        routes.update(Metrics(runtime.process).routes())
        routes.update(admin_routes(runtime))
        self.routes = RouteTable(routes, {"/models/": models.one, "/v1/models/": models.one})


async def retire(runtime: Runtime) -> None:
    """Close a runtime that was replaced, once what it has counted is written: a store may be down for now."""
    try:
        written = await runtime.experiments.flush()
        while not written:
            await asyncio.sleep(RETRY_S)
            written = await runtime.experiments.flush()
    finally:
        await runtime.close()


class Gateway:
    """Holds the current generation; `app` is what the server calls."""

    def __init__(self, runtime: Runtime) -> None:
        self.health = Health(runtime)
        self._generation = Generation(runtime, self.health)
        self._closing: set[asyncio.Task[None]] = set()
        section = runtime.config.routeiq.server
        self._body_limit = BodyLimitMiddleware(self._dispatch, max_bytes=section.max_body_bytes)
        self.app: ASGIApp = RequestIDMiddleware(
            AdmissionMiddleware(self._body_limit, admission=runtime.admission)
        )

    @property
    def runtime(self) -> Runtime:
        """What new requests are answered by."""
        return self._generation.runtime

    def replace(self, runtime: Runtime) -> None:
        """Answer new requests by another runtime from now on. Call it on the event loop."""
        old, self._generation = self._generation, Generation(runtime, self.health)
        self.health.runtime = runtime
        self._body_limit.max_bytes = runtime.config.routeiq.server.max_body_bytes
        runtime.start()
        old.retired = True
        if not old.in_flight:
            self._close(old)

    async def closed(self) -> None:
        """Wait until replaced runtimes are closed; one whose counts no store takes is closed with them."""
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSED_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _close(self, generation: Generation) -> None:
        task = asyncio.get_running_loop().create_task(retire(generation.runtime))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"unsupported ASGI scope {scope['type']!r}")
        generation = self._generation
        generation.in_flight += 1
        try:
            await generation.routes.find(scope)(scope, receive, send)
        except RequestError as error:
            await respond_error(send, error)
        except ClientDisconnected:
            return
        except asyncio.CancelledError:
            raise
        except Exception:  # the last fire-wall: no traceback may reach a client
            logger.exception("request failed", extra={"request_id": scope["request_id"]})
            await respond_error(
                send,
                InternalError("The gateway failed on this request. Quote the x-request-id header."),
            )
        finally:
            generation.in_flight -= 1
            if generation.retired and not generation.in_flight:
                self._close(generation)
