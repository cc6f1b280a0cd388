"""The admin API's part on limits and budgets: what is used of them. A caller may look at its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from routeiq.access.authentication import Authenticator
from routeiq.access.limits import Limiter, Usage
from routeiq.access.limits.subjects import Subjects
from routeiq.access.principal import Principal
from routeiq.exceptions import InvalidRequest
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.state_errors import unavailable
from routeiq.stores import NANO, EntityKind
from routeiq.types import JsonObject

BASE = "/routeiq/v1"
KINDS: Final[tuple[EntityKind, ...]] = ("key", "user", "team")
_UNITS = {
    "requests": "requests",
    "tokens": "tokens",
    "concurrent": "requests",
    "spend_usd": "usd",
    "spend_tokens": "tokens",
}


class UsageApi:
    """Handlers. `/limits` and `/budgets` need `limits.read` and `budgets.read`; `/usage` is for every key."""

    def __init__(
        self, *, authenticator: Authenticator, limiter: Limiter, subjects: Subjects
    ) -> None:
        self._authenticator = authenticator
        self._limiter = limiter
        self._subjects = subjects

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {
            f"{BASE}/limits": {"GET": self.limits},
            f"{BASE}/budgets": {"GET": self.budgets},
            f"{BASE}/usage": {"GET": self.own},
        }

    async def limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rate limits of a key, a user or a team, those of the levels above it included."""
        await self._authenticator.require(scope["headers"], "limits.read")
        found = await self._used(await self._asked(scope))
        rates = [_view(one) for one in found if not _is_budget(one)]
        await respond_json(send, {"data": rates})

    async def budgets(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Budgets of a key, a user or a team, those of the levels above it included."""
        await self._authenticator.require(scope["headers"], "budgets.read")
        found = await self._used(await self._asked(scope))
        await respond_json(send, {"data": [_view(one) for one in found if _is_budget(one)]})

    async def own(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Limits and budgets of the key that asks."""
        principal = await self._authenticator.authenticate(scope["headers"])
        found = await self._used(principal)
        body: JsonObject = {
            "key": principal.alias,
            "limits": [_view(one) for one in found if not _is_budget(one)],
            "budgets": [_view(one) for one in found if _is_budget(one)],
        }
        await respond_json(send, body)

    async def _asked(self, scope: Scope) -> Principal:
        """Whose: exactly one of `key`, `user` and `team`."""
        text = scope.get("query_string", b"").decode("latin-1")
        query = parse_qsl(text, keep_blank_values=True)
        kinds = [kind for kind in KINDS for name, _ in query if name == kind]
        if len(query) != 1 or len(kinds) != 1 or not query[0][1]:
            raise InvalidRequest("Give exactly one of `key`, `user` and `team`.")
        return await unavailable(self._subjects.find(kinds[0], query[0][1]))

    async def _used(self, principal: Principal) -> Sequence[Usage]:
        return await unavailable(self._limiter.usage(principal)) if principal.rules else ()


def _is_budget(usage: Usage) -> bool:
    return usage.rule.kind.startswith("spend")


def _view(usage: Usage) -> JsonObject:
    rule = usage.rule
    level, _, id = rule.scope.partition(":")
    money = rule.kind == "spend_usd"
    limit, used, left = (
        (amount / NANO if money else amount) for amount in (rule.limit, usage.used, usage.remaining)
    )
    return {
        "level": level,
        "id": id,
        "limits": rule.kind,
        "unit": _UNITS[rule.kind],
        "per": rule.per,
        "limit": limit,
        "used": used,
        "remaining": left,
        "reset_s": usage.reset_s,
        "resets_at": usage.resets_at,
        "fail": rule.fail,
    }
