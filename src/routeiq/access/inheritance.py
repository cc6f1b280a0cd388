"""What a key may do: its own settings with those of its user, its team and the defaults, as one `Principal`.

Rights to models only shrink on the way from team to key, and each level's limits hold and are counted at that
level. Scopes are ids, so a rename resets no budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from routeiq.access.principal import ModelAccess, Principal, Rule
from routeiq.config.access import EntitySettings, SpendLimit
from routeiq.stores import NANO, EntityKind
from routeiq.values import value

T = TypeVar("T")
Line = tuple[tuple[EntityKind, str], ...]


@value
class Level:
    """A key, a user or a team, wherever it was written down."""

    kind: EntityKind
    id: str
    alias: str
    settings: EntitySettings
    expires_at: float | None = None
    revoked_at: float | None = None


@value
class Resolved:
    """A key with all that it inherits. `refusal` is why it may not be used at all, in words for its owner.

    `line` names everything that it was made of: a change of any of them makes it outdated.
    """

    principal: Principal
    refusal: str | None = None
    line: Line = ()

    def ending(self, at: float) -> Resolved:
        """The same, but refused from this time on."""
        expires = self.principal.expires_at
        end = at if expires is None else min(at, expires)
        return replace(self, principal=replace(self.principal, expires_at=end))


def resolve(
    key: Level,
    *,
    user: Level | None = None,
    team: Level | None = None,
    defaults: EntitySettings | None = None,
) -> Resolved:
    """What this key may do. `team` is the key's own, or its user's."""
    defaults = defaults or EntitySettings()
    levels = [level for level in (key, user, team) if level is not None]
    settings = [level.settings for level in levels] + [defaults]
    expiries = [level.expires_at for level in levels if level.expires_at is not None]
    permissions = _nearest(one.permissions for one in settings)
    may_hint = _nearest(one.may_hint for one in settings)
    principal = Principal(
        alias=key.alias,
        key_id=key.id,
        user=user.id if user else None,
        team=team.id if team else None,
        tenant=_scope(levels[-1]),
        access=_access(settings),
        profiles=_nearest(one.profiles for one in settings),
        permissions=frozenset(permissions or ()),
        may_hint=True if may_hint is None else may_hint,
        tags=frozenset(tag for one in settings for tag in one.tags),
        rules=_rules(levels, defaults),
        expires_at=min(expiries, default=None),
    )
    line = tuple((level.kind, level.id) for level in levels)
    return Resolved(principal=principal, refusal=_refusal(levels, defaults), line=line)


def _scope(level: Level) -> str:
    return f"{level.kind}:{level.id}"


def _nearest(values: Iterable[T | None]) -> T | None:
    return next((one for one in values if one is not None), None)


def _access(settings: Sequence[EntitySettings]) -> ModelAccess | None:
    allowed = [one.models for one in settings if one.models is not None]
    denied = [glob for one in settings for glob in one.denied_models]
    return ModelAccess(allowed, denied) if allowed or denied else None


def _refusal(levels: Sequence[Level], defaults: EntitySettings) -> str | None:
    for level in levels:
        whose = (
            "This API key"
            if level.kind == "key"
            else f"The {level.kind} that this API key belongs to"
        )
        if level.revoked_at is not None:
            return f"{whose} was revoked."
        if level.settings.disabled:
            return f"{whose} is disabled."
    return "API keys are disabled by the gateway's operator." if defaults.disabled else None


def _rules(levels: Sequence[Level], defaults: EntitySettings) -> tuple[Rule, ...]:
    """Every level's limits. One bucket has one limit: where two rules count the same, the lower one holds."""
    found: dict[tuple[str, str, str | None], Rule] = {}
    for level in levels:
        both = [level.settings, defaults] if level.kind == "key" else [level.settings]
        for rule in (rule for one in both for rule in _of(_scope(level), one)):
            bucket = (rule.scope, rule.kind, rule.per)
            found[bucket] = _tighter(found[bucket], rule) if bucket in found else rule
    return tuple(found.values())


def _tighter(one: Rule, other: Rule) -> Rule:
    if one.limit != other.limit:
        return one if one.limit < other.limit else other
    closed = "closed" in (one.fail, other.fail)
    alerts = sorted({*one.alert_at, *other.alert_at})
    return replace(one, fail="closed" if closed else "open", alert_at=tuple(alerts))


def _of(scope: str, settings: EntitySettings) -> Iterator[Rule]:
    limits = settings.limits
    fail = limits.fail
    if limits.requests_per_minute is not None:
        limit = limits.requests_per_minute
        yield Rule(scope=scope, kind="requests", limit=limit, per="minute", fail=fail)
    if limits.tokens_per_minute is not None:
        limit = limits.tokens_per_minute
        yield Rule(scope=scope, kind="tokens", limit=limit, per="minute", fail=fail)
    if limits.concurrent_requests is not None:
        yield Rule(scope=scope, kind="concurrent", limit=limits.concurrent_requests, fail=fail)
    for budget in settings.budgets:
        yield _spending(scope, budget)


def _spending(scope: str, budget: SpendLimit) -> Rule:
    alerts = tuple(sorted(set(budget.alert_at)))
    if budget.usd is not None:
        # At least one: a limit of zero nano-USD would be no amount at all.
        nano = max(1, round(budget.usd * NANO))
        return Rule(
            scope=scope,
            kind="spend_usd",
            limit=nano,
            per=budget.per,
            fail=budget.fail,
            alert_at=alerts,
        )
    return Rule(
        scope=scope,
        kind="spend_tokens",
        limit=budget.tokens or 0,
        per=budget.per,
        fail=budget.fail,
        alert_at=alerts,
    )
