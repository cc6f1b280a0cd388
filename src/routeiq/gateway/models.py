"""`GET /v1/models`: what a client can ask for."""

from __future__ import annotations

from collections.abc import Sequence
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

    async def _names(self, scope: Scope) -> Sequence[str]:
        """What the caller may ask for; of routing groups those with a model that it may use."""
        principal = await self.runtime.authenticator.authenticate(scope["headers"])
        catalog = self.runtime.catalog
        access = principal.access
        if access is None:
            return catalog.names()
        return [
            name
            for name in catalog.names()
            if any(access.allows(group[0].group) for group in catalog.resolve(name).groups)
        ]

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All of them."""
        names = await self._names(scope)
        await respond_json(send, {"object": "list", "data": [entry(name) for name in names]})

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One of them; names may hold slashes."""
        names = await self._names(scope)
        name = unquote(scope["path"].split("/models/", 1)[1])
        if name not in names:
            raise ModelNotFound(f"The model {name[:200]!r} does not exist.", param="model")
        await respond_json(send, entry(name))


def entry(name: str) -> dict[str, Any]:
    """A model object as OpenAI's API has it."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "routeiq"}
