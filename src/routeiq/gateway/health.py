"""Liveness, readiness, startup. Never authenticated, never refused, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from routeiq.gateway.asgi import Handler, Receive, Routes, Scope, Send, respond_json

if TYPE_CHECKING:
    from routeiq.gateway.runtime import Runtime


class Health:
    """Answers the probes. `started` is set once the worker accepts traffic."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.started = False

    def routes(self) -> Routes:
        """The paths, and the aliases that S3 and LiteLLM's users know."""
        live: dict[str, Handler] = {"GET": self.live, "HEAD": self.live}
        ready: dict[str, Handler] = {"GET": self.ready, "HEAD": self.ready}
        startup: dict[str, Handler] = {"GET": self.startup, "HEAD": self.startup}
        return {
            "/_health/live": live,
            "/_health/ready": ready,
            "/_health/startup": startup,
            "/health/live": live,
            "/health/liveliness": live,
            "/health/ready": ready,
            "/health/readiness": ready,
            "/health": ready,
        }

    async def live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The event loop answers: 200."""
        await respond_json(send, {"status": "alive"})

    async def ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 `ready` or `degraded` (a store is down, decision 20), or 503 while starting or draining.

        What is said was noted before: no store is asked, so probes cost nothing and hang on nothing.
        """
        if self.runtime.admission.draining:
            await respond_json(send, {"status": "draining"}, status=503)
        elif not self.started:
            await respond_json(send, {"status": "starting"}, status=503)
        else:
            stores = self.runtime.process.state.reports()
            up = all(one["state"] == "up" for one in stores.values())
            status = "ready" if up else "degraded"
            await respond_json(send, {"status": status, "stores": stores})

    async def startup(self, scope: Scope, receive: Receive, send: Send) -> None:
        """200 once started, whatever comes later."""
        if self.started:
            await respond_json(send, {"status": "started"})
        else:
            await respond_json(send, {"status": "starting"}, status=503)
