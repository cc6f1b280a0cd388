"""The ASGI application: a table of routes behind the middleware stack."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from routeiq.exceptions import MethodNotAllowed, NotFound, RequestError
from routeiq.gateway.admin import Admin
from routeiq.gateway.artifacts import Artifacts
from routeiq.gateway.asgi import (
    ASGIApp,
    Handler,
    Receive,
    Routes,
    Scope,
    Send,
    respond_error,
)
from routeiq.gateway.body import ClientDisconnected
from routeiq.gateway.health import Health
from routeiq.gateway.middleware import AdmissionMiddleware, BodyLimitMiddleware, RequestIDMiddleware
from routeiq.gateway.models import Models
from routeiq.gateway.runtime import Runtime
from routeiq.types import Operation

logger = logging.getLogger("routeiq.gateway")

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


class Gateway:
    """Holds the runtime; `app` is what the server calls."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.health = Health(runtime)
        admin = Admin(runtime)
        models = Models(runtime)
        self._routes: Routes = {}
        for prefix in ("", "/v1"):
            for path, operation in OPERATIONS.items():
                self._routes[prefix + path] = {"POST": partial(runtime.pipeline.handle, operation)}
            self._routes[prefix + "/models"] = {"GET": models.list}
        self._routes.update(self.health.routes())
        self._routes.update(admin.routes())
        self._routes.update(runtime.feedback.routes())
        self._routes.update(Artifacts(runtime).routes())
        self._prefixes: dict[str, Handler] = {
            "/models/": models.one,
            "/v1/models/": models.one,
            **admin.prefixes(),
        }
        section = runtime.config.routeiq.server
        self.app: ASGIApp = RequestIDMiddleware(
            AdmissionMiddleware(
                BodyLimitMiddleware(self._dispatch, max_bytes=section.max_body_bytes),
                admission=runtime.admission,
            )
        )

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"unsupported ASGI scope {scope['type']!r}")
        try:
            await self._find(scope)(scope, receive, send)
        except MethodNotAllowed as error:
            allow = ", ".join(self._methods(scope["path"])).encode()
            await respond_error(send, error, [(b"allow", allow)])
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

    def _methods(self, path: str) -> dict[str, Handler]:
        methods = self._routes.get(path)
        if methods is not None:
            return methods
        for prefix, handler in self._prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return {"GET": handler}
        return {}

    def _find(self, scope: Scope) -> Handler:
        path: str = scope["path"]
        methods = self._methods(path)
        if not methods:
            raise NotFound(f"There is no route {scope['method']} {path[:200]!r}.")
        found = methods.get(scope["method"])
        if found is None:
            raise MethodNotAllowed(
                f"{path[:200]!r} takes {', '.join(methods)}, not {scope['method']}."
            )
        return found
