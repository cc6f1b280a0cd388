"""`GET /v1/models`: what a client can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from routeiq.exceptions import ModelNotFound
from routeiq.gateway.asgi import Receive, Scope, Send, respond_json

if TYPE_CHECKING:
    from routeiq.gateway.runtime import Runtime

CREATED = 1_700_000_000  # OpenAI's clients require the field; a group has no birthday


class Models:
    """Lists groups, aliases, `auto` and profiles."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All of them."""
        self.runtime.authenticator.authenticate(scope["headers"])
        names = self.runtime.catalog.names()
        await respond_json(send, {"object": "list", "data": [entry(name) for name in names]})

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of them; names may hold slashes."""
        self.runtime.authenticator.authenticate(scope["headers"])
        name = unquote(scope["path"].split("/models/", 1)[1])
        if name not in self.runtime.catalog.names():
            raise ModelNotFound(f"The model {name[:200]!r} does not exist.", param="model")
        await respond_json(send, entry(name))


def entry(name: str) -> dict[str, Any]:
    """A model object as OpenAI's API has it."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "routeiq"}
