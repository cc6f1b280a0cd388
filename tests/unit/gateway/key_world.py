"""The admin API of keys over a directory in memory, and callers of it."""

from __future__ import annotations

import json
from typing import Any

import orjson

from routeiq.access.administration import Administration
from routeiq.access.authentication import Authenticator
from routeiq.access.declared import Declared
from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper
from routeiq.config.access import Access
from routeiq.exceptions import (
    InvalidApiKey,
    StoreUnavailable,
)
from routeiq.gateway.asgi import Handler, Message
from routeiq.gateway.keys import BASE, Keys
from routeiq.types import JsonObject
from tests.support.clock import FakeClock
from tests.support.directory import FakeDirectory, FakeDocuments

DECLARED: dict[str, Any] = {
    "keys": {
        "ops": {"key": "operations-secret", "permissions": ["keys.*", "users.read"]},
        "bot": {"key": "declared-bot-secret", "user": "ann"},
    },
    "users": {"ann": {"team": "research"}},
    "teams": {"research": {}},
}


class World:
    """The routes over a directory in memory, and the authenticator that lets callers in."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.directory = FakeDirectory()
        self.told: list[tuple[str, JsonObject]] = []
        self.deaf = False
        pepper = Pepper(FakeDocuments(), setting="a setting for the tests")
        declared = Declared(Access.model_validate(DECLARED))
        cache = KeyCache(self.directory, pepper=pepper, clock=clock)
        self.authenticator = Authenticator(
            master_key="sk-master", declared=declared, keys=cache, clock=clock
        )
        administration = Administration(
            self.directory,
            pepper=pepper,
            clock=clock,
            announce=self.announce,
            declared=declared,
            cache=cache,
        )
        keys = Keys(authenticator=self.authenticator, administration=administration, clock=clock)
        self.routes = keys.routes()

    async def announce(self, topic: str, payload: JsonObject) -> None:
        if self.deaf:
            raise StoreUnavailable("nobody hears")
        self.told.append((topic, payload))

    def handler(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        wanted = path.split("/")
        for route, methods in self.routes.items():
            parts = route.removeprefix(BASE).split("/")
            if len(parts) == len(wanted) and all(
                part in (own, "{id}") for part, own in zip(parts, wanted, strict=True)
            ):
                return methods[method], {"id": wanted[2]} if "{id}" in parts else {}
        raise AssertionError(path)

    async def send(
        self, call: str, body: Any = None, *, key: str = "sk-master", if_match: str | None = None
    ) -> tuple[Message, Any]:
        method, _, path = call.partition(" ")
        path, _, query = path.partition("?")
        handler, parameters = self.handler(method, path)
        sent: list[Message] = []

        async def receive() -> Message:
            return {
                "type": "http.request",
                "body": b"" if body is None else orjson.dumps(body),
            }

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"authorization", f"Bearer {key}".encode())]
        if if_match is not None:
            headers.append((b"if-match", if_match.encode()))
        scope = {
            "headers": headers,
            "query_string": query.encode(),
            "path_params": parameters,
            "request_id": "request-1",
        }
        await handler(scope, receive, send)
        return sent[0], json.loads(sent[1]["body"])

    async def ok(self, call: str, body: Any = None, **more: Any) -> Any:
        return (await self.send(call, body, **more))[1]

    async def key(self, alias: str = "app", **body: Any) -> Any:
        return await self.ok("POST /keys", {"alias": alias, **body})

    async def may_call(self, secret: str) -> bool:
        try:
            await self.authenticator.authenticate([(b"x-api-key", secret.encode())])
        except InvalidApiKey:
            return False
        return True
