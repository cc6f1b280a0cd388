"""`routeiq.access`: keys, users and teams, their rights, limits and budgets; the admin API takes the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Count, Fraction, PositiveUSD, Section

Fail = Literal["open", "closed"]
Period = Literal["day", "week", "month", "total"]
Permission = Annotated[str, Field(pattern=r"^(\*|[a-z]+\.(\*|[a-z]+))$")]


class RateLimits(Section):
    """How much at a time. Not given is not limited at this level."""

    requests_per_minute: Count | None = None
    """Requests in a minute of the store's clock, and in any 60 seconds while they come evenly."""
    tokens_per_minute: Count | None = None
    """Input and output tokens, likewise; estimated at admission, corrected by real usage."""
    concurrent_requests: Count | None = None
    """Requests under way at once, over all workers."""
    fail: Fail = "open"
    """Whether requests pass (`open`) or get 503 (`closed`) while the shared store is down."""


class SpendLimit(Section):
    """A budget: USD or tokens in a period of the UTC calendar (weeks begin on Monday), or in all."""

    usd: PositiveUSD | None = None
    """US dollars; give this or `tokens`."""
    tokens: Count | None = None
    """Input and output tokens; give this or `usd`."""
    per: Period = "month"
    """day, week, month or total."""
    alert_at: tuple[Fraction, ...] = (0.8, 1.0)
    """Shares of the budget at which a warning is logged and recorded, once a period."""
    fail: Fail = "open"
    """Whether requests pass (`open`) or get 503 (`closed`) while the shared store is down."""

    @model_validator(mode="after")
    def _one_measure(self) -> SpendLimit:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("give exactly one of usd and tokens")
        return self


class EntitySettings(Section):
    """What a key, a user or a team may do. Settings are inherited team to user to key.

    A model must be allowed at every level and denied at none; the limits and budgets of every level hold, each
    counted at its own level; tags add up; of `permissions`, `may_hint` and `profiles` the nearest level that
    says anything counts.
    """

    models: tuple[str, ...] | None = None
    """Model groups (globs) that may answer; all by default."""
    denied_models: tuple[str, ...] = ()
    """Model groups (globs) that may not."""
    profiles: tuple[str, ...] | None = None
    """Profiles (globs) that may be asked for; all by default."""
    permissions: tuple[Permission, ...] | None = None
    """What it may do in the admin API: `*`, `keys.*`, `decisions.read`; nothing by default."""
    may_hint: bool | None = None
    """Whether `x-routeiq-hint` is listened to; yes by default."""
    tags: tuple[str, ...] = ()
    """Added to the tags of every request, for eligibility and reports."""
    limits: RateLimits = RateLimits()
    """Rate limits at this level."""
    budgets: tuple[SpendLimit, ...] = ()
    """Budgets at this level."""
    disabled: bool = False
    """Refuse everything, without deleting anything."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Free text for the operator."""


class DeclaredTeam(EntitySettings):
    """A team that stands in config.yaml: the admin API shows it and cannot change it."""


class DeclaredUser(EntitySettings):
    """A user that stands in config.yaml."""

    team: str | None = None
    """Name of the team."""


class DeclaredKey(EntitySettings):
    """A key that stands in config.yaml."""

    key: Annotated[str, Field(min_length=16, repr=False)]
    """The secret; write `os.environ/NAME`."""
    user: str | None = None
    """Name of the user whose key it is."""
    team: str | None = None
    """Name of the team, where there is no user."""
    expires: str | None = None
    """ISO 8601 date or time after which it is refused."""

    @model_validator(mode="after")
    def _one_owner(self) -> DeclaredKey:
        if self.user is not None and self.team is not None:
            raise ValueError("give user or team: a user has a team of its own")
        return self


class Access(Section):
    """Who may call, declared as configuration; more are made with `routeiq keys` or the admin API."""

    keys: dict[str, DeclaredKey] = Field(default_factory=dict)
    """Keys by alias."""
    users: dict[str, DeclaredUser] = Field(default_factory=dict)
    """Users by name."""
    teams: dict[str, DeclaredTeam] = Field(default_factory=dict)
    """Teams by name."""
    defaults: EntitySettings = EntitySettings()
    """Holds for every key, in addition to its own settings; limits and budgets are counted per key."""
