"""Who is calling, and what that allows: made once per key and remembered, so all of it is frozen."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

from routeiq.values import value

RuleKind = Literal["requests", "tokens", "concurrent", "spend_usd", "spend_tokens"]
MEMORY = 4096


class ModelAccess:
    """Which model groups may answer: allowed by every level's globs, denied by none."""

    __slots__ = ("_allowed", "_denied", "_known")

    def __init__(self, allowed: Iterable[tuple[str, ...]] = (), denied: Iterable[str] = ()) -> None:
        self._allowed = tuple(allowed)
        self._denied = tuple(denied)
        self._known: dict[str, bool] = {}

    def allows(self, group: str) -> bool:
        """Whether this model group may be used; remembered, since it is asked for each candidate."""
        known = self._known.get(group)
        if known is None:
            known = all(_matches(group, globs) for globs in self._allowed) and not _matches(
                group, self._denied
            )
            if (
                len(self._known) >= MEMORY
            ):  # names that wildcards matched are the client's to choose
                self._known.clear()
            self._known[group] = known
        return known


def _matches(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


@value
class Rule:
    """One limit at one level. `limit` is requests, tokens, slots or nano-USD, `scope` like `key:<id>`.

    `per` is `minute` for rates, a period of the UTC calendar for spending, and `None` for slots.
    """

    scope: str
    kind: RuleKind
    limit: int
    per: Literal["minute", "day", "week", "month", "total"] | None = None
    fail: Literal["open", "closed"] = "open"
    alert_at: tuple[float, ...] = ()


@value
class Principal:
    """The authenticated caller. `alias` is safe to print.

    `tenant` groups all that is counted together: the team, else the user, else the key. `access` is `None` where
    every model is allowed; `profiles` likewise. An admin has every permission and no limits.
    """

    alias: str
    admin: bool = False
    key_id: str | None = None
    user: str | None = None
    team: str | None = None
    tenant: str = ""
    access: ModelAccess | None = None
    profiles: tuple[str, ...] | None = None
    permissions: frozenset[str] = frozenset()
    may_hint: bool = True
    tags: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    expires_at: float | None = None

    def may(self, permission: str) -> bool:
        """Whether it may do `namespace.verb` in the admin API."""
        if self.admin or "*" in self.permissions or permission in self.permissions:
            return True
        return permission.partition(".")[0] + ".*" in self.permissions

    def may_profile(self, name: str) -> bool:
        """Whether a request may ask for this profile."""
        return self.profiles is None or _matches(name, self.profiles)


ANONYMOUS_ADMIN = Principal(alias="anonymous", admin=True)
