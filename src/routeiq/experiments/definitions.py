"""Which experiments there are: those of config.yaml and those of the control document, together and checked.

The control document `experiments` has `definitions` (made through the admin API), `overrides` (declared
experiments that were started or stopped through it), `stopped` (variants that a guard stopped) and `resets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from routeiq.config.experiments import Experiment, Variant
from routeiq.exceptions import ConfigError, Problem
from routeiq.types import JsonObject, StrategyTraits
from routeiq.values import value

from .layers import allot

DOCUMENT = "experiments"
"""Name of the control document."""
_PLACE = "routeiq.experiments"


class Names(Protocol):
    """What variants may name; the gateway knows."""

    def strategy(self, name: str) -> StrategyTraits | None:
        """What a strategy is like, `None` where there is none of this name."""
        ...

    def profile(self, name: str) -> bool:
        """Whether there is such a profile."""
        ...

    def model(self, name: str) -> bool:
        """Whether there is such a model group, routing group or alias."""
        ...


@value
class Definition:
    """An experiment as it is in force.

    `stopped` has `{at, why}` of each variant that a guard stopped; `resets` counts how often counting began anew.
    """

    name: str
    experiment: Experiment
    source: Literal["config", "api"]
    stopped: Mapping[str, JsonObject]
    resets: int = 0


def declared(experiments: Mapping[str, Experiment], names: Names) -> dict[str, Definition]:
    """Those of config.yaml alone.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    found, problems = merge(experiments, None, names)
    if problems:
        raise ConfigError(problems)
    return found


def merge(
    experiments: Mapping[str, Experiment], body: JsonObject | None, names: Names | None = None
) -> tuple[dict[str, Definition], list[Problem]]:
    """Every experiment that can be used, and why others cannot.

    A mistake in one experiment is no reason to lose the others. With `names`, what variants name is checked too.
    """
    document = body or {}
    problems: list[Problem] = []
    found = _read(experiments, document, problems)
    if names is not None:
        for name, one in list(found.items()):
            wrong = check(name, one.experiment, names)
            if wrong:
                problems += wrong
                del found[name]
    while True:  # without one that does not fit, the others may
        _, misfits = allot({name: one.experiment for name, one in found.items()})
        if not misfits:
            return found, problems
        problems.append(_at(misfits[0].key, misfits[0].message, misfits[0].fix))
        del found[misfits[0].key]


def _read(
    experiments: Mapping[str, Experiment], document: JsonObject, problems: list[Problem]
) -> dict[str, Definition]:
    found: dict[str, Definition] = {}
    for name, experiment in experiments.items():
        override = _mapping(_mapping(document, "overrides"), name)
        if override:
            # Validated again: dates come as text, and a ramp without a start is refused.
            experiment = _parsed(name, {**as_json(experiment), **override}, problems) or experiment
        found[name] = _definition(name, experiment, "config", document)
    for name, raw in _mapping(document, "definitions").items():
        if name in experiments:
            message = "is in config.yaml and in the admin API: the one in config.yaml counts."
            problems.append(_at(name, message, "Delete or rename one of them."))
            continue
        made = _parsed(name, raw, problems)
        if made is not None:
            found[name] = _definition(name, made, "api", document)
    return found


def _definition(
    name: str, experiment: Experiment, source: Literal["config", "api"], document: JsonObject
) -> Definition:
    return Definition(
        name=name,
        experiment=experiment,
        source=source,
        stopped=_mapping(_mapping(document, "stopped"), name),
        resets=int(_mapping(document, "resets").get(name, 0)),
    )


def as_json(experiment: Experiment) -> JsonObject:
    """An experiment as it is written, defaults left out."""
    return experiment.model_dump(mode="json", exclude_defaults=True)


def check(name: str, experiment: Experiment, names: Names) -> list[Problem]:
    """What its variants name that does not exist, or cannot be used so."""
    problems: list[Problem] = []
    for variant, one in experiment.variants.items():
        place = f"{name}.variants.{variant}"
        if one.strategy is not None:
            problems += _strategy(place, one.strategy, experiment, names)
        if one.profile is not None and not names.profile(one.profile):
            problems.append(_at(f"{place}.profile", f"no profile is called {one.profile!r}."))
        if one.model is not None and not names.model(one.model):
            problems.append(_at(f"{place}.model", f"no model or group is called {one.model!r}."))
    return problems


def _strategy(place: str, strategy: str, experiment: Experiment, names: Names) -> list[Problem]:
    traits = names.strategy(strategy)
    if traits is None:
        return [_at(f"{place}.strategy", f"no strategy is called {strategy!r}.")]
    if experiment.mode == "shadow" and (traits.prepares or traits.verifies):
        message = (
            f"{strategy!r} asks models itself, which costs money and time: it cannot run in shadow."
        )
        return [_at(f"{place}.strategy", message, "Use `mode: live` with little `traffic`.")]
    if experiment.mode == "shadow" and traits.cpu_bound:
        message = f"{strategy!r} computes for so long that it would hold up requests: it cannot run in shadow."
        return [_at(f"{place}.strategy", message, "Use `mode: live` with little `traffic`.")]
    return []


def changed_meaning(old: Experiment, new: Experiment) -> bool:
    """Whether figures counted under the old definition say nothing about the new one."""
    kept = ("mode", "models", "subject", "salt", "layer")
    return (
        any(getattr(old, name) != getattr(new, name) for name in kept)
        or any(
            name in new.variants and _acts(one) != _acts(new.variants[name])
            for name, one in old.variants.items()
        )
        or old.control != new.control
    )


def _acts(variant: Variant) -> tuple[Any, ...]:
    return variant.strategy, variant.profile, variant.model


def _parsed(name: str, raw: Any, problems: list[Problem]) -> Experiment | None:
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        problems += problems_of(name, error)
        return None


def problems_of(name: str, error: ValidationError) -> list[Problem]:
    """What pydantic found, at its place."""
    return [
        _at(".".join([name, *map(str, one["loc"])]), one["msg"].removeprefix("Value error, ") + ".")
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _at(place: str, message: str, fix: str = "") -> Problem:
    return Problem(key=f"{_PLACE}.{place}", message=message, fix=fix)


def _mapping(body: Mapping[str, Any], name: str) -> JsonObject:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
