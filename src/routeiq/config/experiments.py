"""`routeiq.experiments`: A/B/n tests over strategies, profiles or models, and shadow tests."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from .base import Fraction, NonNegative, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


SubjectKind = Literal["key", "user", "team", "session", "request"]


class Variant(Section):
    """One arm. It changes at most one thing."""

    weight: NonNegative = 1.0
    """Its share of the experiment's subjects, in proportion to the others. Changing one weight moves only the
    subjects that must move."""
    strategy: str | None = None
    """Name of a strategy, with its default options."""
    profile: str | None = None
    """Profile under which its requests are routed."""
    model: str | None = None
    """Model group, routing group or alias that stands in for the one asked for."""

    @model_validator(mode="after")
    def _one_change(self) -> Variant:
        if sum(value is not None for value in (self.strategy, self.profile, self.model)) > 1:
            raise ValueError("a variant changes one of strategy, profile and model")
        return self

    @property
    def changes(self) -> bool:
        """Whether its requests are routed otherwise than without the experiment."""
        return (self.strategy or self.profile or self.model) is not None


class Ramp(Section):
    """Traffic grows step by step to the experiment's `traffic`, from the experiment's `start` on."""

    start: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Share of eligible subjects at first, at most `traffic`."""
    hours: Annotated[float, Field(gt=0.0)] = 24.0
    """Until all of `traffic` takes part; the share doubles at even intervals."""


class Guard(Section):
    """Stops a variant by itself when it is shown to be worse than the control."""

    metric: Literal["error_rate", "cost_usd", "latency_ms", "quality"]
    """What is watched; of `quality` less is worse, of the others more."""
    margin: NonNegative = 0.0
    """How much worse than the control its mean may be, in the metric's unit."""
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.99
    """Of the sequential test, so that looking again and again stops nothing by chance."""


class Experiment(Section):
    """Who takes part, what differs, when, and what stops it."""

    variants: dict[Name, Variant] = Field(min_length=1)
    """Arms by name. The one that changes nothing is the control, otherwise the first."""
    mode: Literal["live", "shadow"] = "live"
    """`shadow`: the variants decide beside the active strategy; their choice is recorded, not carried out."""
    models: tuple[str, ...] = Field(default=("auto",), min_length=1)
    """Requested names (globs) that take part."""
    enabled: bool = True
    """Off: nobody is assigned."""
    traffic: Fraction = 1.0
    """Share of eligible subjects that take part."""
    layer: Name | None = None
    """Experiments of one layer never share a subject; each takes its `traffic` of the layer. Those that start
    earlier keep their place."""
    subject: tuple[SubjectKind, ...] = Field(
        default=("key", "user", "session", "request"), min_length=1
    )
    """What is assigned as one: the first of these that the request has (decision 16)."""
    start: AwareDatetime | None = None
    """Nobody is assigned before; the steps of a ramp count from here."""
    end: AwareDatetime | None = None
    """Nobody is assigned after."""
    ramp: Ramp | None = None
    """Begin with little traffic."""
    guards: tuple[Guard, ...] = ()
    """What stops a variant by itself."""
    salt: str = ""
    """Changes every assignment; empty is the experiment's name."""

    @model_validator(mode="after")
    def _in_order(self) -> Experiment:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if not any(variant.weight > 0 for variant in self.variants.values()):
            raise ValueError("at least one variant needs a weight")
        if self.enabled and self.ramp is not None and self.start is None:
            raise ValueError("a ramp needs a start")
        return self

    @model_validator(mode="after")
    def _shadow(self) -> Experiment:
        if self.mode == "shadow" and self.guards:
            raise ValueError("a shadow experiment changes no answer: there is nothing to guard")
        if self.mode == "shadow" and not any(one.changes for one in self.variants.values()):
            raise ValueError("a shadow experiment needs a variant that changes something")
        return self

    @property
    def control(self) -> str:
        """Name of the variant to which the others are compared."""
        unchanged = [name for name, one in self.variants.items() if not one.changes]
        return unchanged[0] if unchanged else next(iter(self.variants))
