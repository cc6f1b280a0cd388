"""The admin API's part on keys, users and teams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import parse_qs

from routeiq.access.administration import Acting, Administration
from routeiq.access.authentication import Authenticator
from routeiq.access.declared import PREFIX
from routeiq.access.views import declared_view, stored_view
from routeiq.access.wishes import grace_in
from routeiq.exceptions import InvalidRequest, NotFound, StateUnavailable, StoreUnavailable
from routeiq.gateway.asgi import (
    Handler,
    Receive,
    Routes,
    Scope,
    Send,
    respond_json,
)
from routeiq.gateway.body import read_body
from routeiq.gateway.query import whole_number
from routeiq.gateway.small_body import small_json
from routeiq.gateway.versions import etag, expected_version
from routeiq.ports import Clock
from routeiq.stores import Entity, EntityKind
from routeiq.types import JsonObject
from routeiq.values import value

BASE = "/routeiq/v1"
KINDS: Final[tuple[EntityKind, ...]] = ("key", "user", "team")
MAX_LIMIT = 1000


@value
class _Answer:
    body: JsonObject
    status: int = 200


_Work = Callable[[Scope, Receive], Awaitable[_Answer]]


class Keys:
    """Handlers; each needs `<kind>s.read` or `<kind>s.write`. A secret is in one answer only, that which made it.

    `{id}` may be an alias. Versions go out as `ETag` and come back in `If-Match`.
    """

    def __init__(
        self, *, authenticator: Authenticator, administration: Administration, clock: Clock
    ) -> None:
        self._authenticator = authenticator
        self._administration = administration
        self._clock = clock

    def routes(self) -> Routes:
        """Path to method to handler."""
        routes: Routes = {}
        for kind in KINDS:
            path = f"{BASE}/{kind}s"
            routes[path] = {
                "GET": self._handler(partial(self._list, kind)),
                "POST": self._handler(partial(self._create, kind)),
            }
            routes[f"{path}/{{id}}"] = {
                "GET": self._handler(partial(self._show, kind)),
                "PATCH": self._handler(partial(self._update, kind)),
                "DELETE": self._handler(partial(self._delete, kind)),
            }
        one = f"{BASE}/keys/{{id}}"
        routes[f"{one}/rotate"] = {"POST": self._handler(self._rotate)}
        routes[f"{one}/revoke"] = {"POST": self._handler(self._revoke)}
        return routes

    def _handler(self, work: _Work) -> Handler:
        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                answer = await work(scope, receive)
            except StoreUnavailable as error:
                raise StateUnavailable(
                    "The database did not answer. If this was a change, look whether it was made.",
                    retry_after_s=1.0,
                ) from error
            version = answer.body.get("version")
            headers = [] if version is None else [etag(version)]
            # A secret must not stay in a cache on the way.
            headers.append((b"cache-control", b"no-store"))
            await respond_json(send, answer.body, status=answer.status, headers=headers)

        return handle

    async def _list(self, kind: EntityKind, scope: Scope, receive: Receive) -> _Answer:
        """Some of them, in the order of their ids; `next` is the `after` of the next page."""
        await self._authenticator.require(scope["headers"], f"{kind}s.read")
        query = {name: values[-1] for name, values in _query(scope).items()}
        limit = whole_number("limit", query.pop("limit", "100"), MAX_LIMIT)
        after = query.pop("after", "")
        team, user = query.pop("team", None), query.pop("user", None)
        if query or (team is not None and kind == "team") or (user is not None and kind != "key"):
            raise InvalidRequest("Give only `limit`, `after`, and for keys `user`, `team`.")
        found: list[JsonObject] = []
        async for view in self._views(kind, after, team, user):
            if len(found) == limit:
                return _Answer(body={"data": found, "next": found[-1]["id"]})
            found.append(view)
        return _Answer(body={"data": found, "next": None})

    async def _views(
        self, kind: EntityKind, after: str, team: str | None, user: str | None
    ) -> AsyncIterator[JsonObject]:
        """Declared ones first: their ids sort so."""
        now = self._clock.wall()
        for view in self._declared(kind):
            if view["id"] > after and self._belongs_declared(view, team, user):
                yield view
        if (team or user or "").startswith(PREFIX):
            return
        start = "" if after.startswith(PREFIX) else after
        async for entity in self._stored(kind, start, team, user):
            yield stored_view(entity, now=now)

    async def _stored(
        self, kind: EntityKind, after: str, team: str | None, user: str | None
    ) -> AsyncIterator[Entity]:
        administration = self._administration
        team_id = None if team is None else (await administration.find("team", team)).id
        user_id = None if user is None else (await administration.find("user", user)).id
        if kind != "key" or (team_id is None and user_id is None):
            async for entity in administration.every(kind, after=after, team=team_id):
                yield entity
            return
        members = set()
        if team_id is not None:
            members = {member.id async for member in administration.every("user", team=team_id)}
        async for entity in administration.every(kind, after=after):
            in_team = team_id is None or entity.team == team_id or entity.owner in members
            if in_team and (user_id is None or entity.owner == user_id):
                yield entity

    def _belongs_declared(self, view: JsonObject, team: str | None, user: str | None) -> bool:
        owner, group = view.get("user"), view.get("team")
        if group is None and owner is not None:
            above = next(one for one in self._declared("user") if one["id"] == owner)
            group = above["team"]
        return (team is None or group == team) and (user is None or owner == user)

    def _declared(self, kind: EntityKind) -> list[JsonObject]:
        declared = self._administration.declared
        if declared is None:
            return []
        now = self._clock.wall()
        entries = sorted(declared.entries(kind).items())
        return [declared_view(kind, name, settings, now=now) for name, settings in entries]

    async def _create(self, kind: EntityKind, scope: Scope, receive: Receive) -> _Answer:
        acting = await self._acting(kind, scope)
        body = await small_json(scope, receive)
        entity, secret = await self._administration.create(kind, body, acting)
        view = self._view(entity)
        return _Answer(body=view if secret is None else {**view, "secret": secret}, status=201)

    async def _show(self, kind: EntityKind, scope: Scope, receive: Receive) -> _Answer:
        await self._authenticator.require(scope["headers"], f"{kind}s.read")
        name = _id(scope)
        for view in self._declared(kind):
            if name in (view["id"], view["alias"]):
                return _Answer(body=view)
        if name.startswith(PREFIX):
            raise NotFound(f"No {kind} {name[:100]!r}.")
        return _Answer(body=self._view(await self._administration.find(kind, name)))

    async def _update(self, kind: EntityKind, scope: Scope, receive: Receive) -> _Answer:
        acting = await self._acting(kind, scope)
        body = await small_json(scope, receive)
        entity = await self._administration.update(kind, _id(scope), body, acting)
        return _Answer(body=self._view(entity))

    async def _delete(self, kind: EntityKind, scope: Scope, receive: Receive) -> _Answer:
        acting = await self._acting(kind, scope)
        id = await self._administration.delete(kind, _id(scope), acting)
        return _Answer(body={"id": id, "deleted": True})

    async def _rotate(self, scope: Scope, receive: Receive) -> _Answer:
        acting = await self._acting("key", scope)
        grace_s = grace_in(await _maybe_json(scope, receive))
        entity, secret = await self._administration.rotate(_id(scope), grace_s, acting)
        return _Answer(body={**self._view(entity), "secret": secret})

    async def _revoke(self, scope: Scope, receive: Receive) -> _Answer:
        acting = await self._acting("key", scope)
        return _Answer(body=self._view(await self._administration.revoke(_id(scope), acting)))

    async def _acting(self, kind: EntityKind, scope: Scope) -> Acting:
        principal = await self._authenticator.require(scope["headers"], f"{kind}s.write")
        return Acting(
            principal=principal, request_id=scope.get("request_id"), version=expected_version(scope)
        )

    def _view(self, entity: Entity) -> JsonObject:
        return stored_view(entity, now=self._clock.wall())


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1"))


def _id(scope: Scope) -> str:
    id: str = scope["path_params"]["id"]
    return id


async def _maybe_json(scope: Scope, receive: Receive) -> JsonObject:
    """A body that may be missing."""
    raw = await read_body(receive)
    if not raw:
        return {}

    async def again() -> dict[str, object]:
        return {"type": "http.request", "body": raw}

    return await small_json(scope, again)
