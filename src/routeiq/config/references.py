"""Names in a configuration that point at other names: model groups, profiles, strategies."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from routeiq.exceptions import ConfigError, Problem
from routeiq.registry import strategy_class

from .document import Document, Place
from .model import Config
from .names import near
from .section import StrategyChoice

_FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")


def reference_problems(config: Config, document: Document) -> Iterator[Problem]:
    """Fallbacks, aliases, profiles and strategies that do not exist.

    The members of routing groups are checked where they are resolved, in the routing catalogue.
    """
    yield from _model_names(config, document)
    section = config.routeiq
    profiles = section.all_profiles()
    if section.profile not in profiles:
        message = f"no profile is called {section.profile!r}."
        file = document.where(("routeiq", "profile"))
        known = f"Known: {', '.join(sorted(profiles))}."
        fix = near(section.profile, profiles, known)
        yield Problem(key="routeiq.profile", message=message, fix=fix, file=file)
    models = _known_models(config)
    for path, choice in _strategies(config):
        if choice is not None:
            yield from _strategy_problems(path, choice, document, models)
    for name, profile in section.profiles.items():
        if profile.guarantee is not None:
            place = ("routeiq", "profiles", name, "guarantee", "reference")
            yield from _unknown_model(place, profile.guarantee.reference, document, models)


def _known_models(config: Config) -> set[str]:
    return {place.group for place in config.deployments} | set(config.router.aliases)


def _unknown_model(
    path: Place, name: str, document: Document, known: set[str]
) -> Iterator[Problem]:
    if name not in known and not any("*" in g and fnmatchcase(name, g) for g in known):
        message = f"no model group is called {name!r}."
        fix = near(name, known, "Add it to model_list, or name another.")
        yield Problem(
            key=".".join(map(str, path)), message=message, fix=fix, file=document.where(path)
        )


def _model_names(config: Config, document: Document) -> Iterator[Problem]:
    router, section = config.router, config.routeiq
    groups = {place.group for place in config.deployments}
    known = groups | {*router.aliases, *section.groups, *section.all_profiles(), "auto"}
    named = [(f"model_group_alias.{alias}", name) for alias, name in router.aliases.items()]
    for kind in _FALLBACKS:
        for source, targets in getattr(router, kind).items():
            named += [(f"{kind}.{source}", name) for name in targets]
    named += [("default_fallbacks", name) for name in router.default_fallbacks]
    for key, name in named:
        if name not in known and not any("*" in g and fnmatchcase(name, g) for g in groups):
            option = key.partition(".")[0]
            there = document.at(("router_settings", option)) is not None
            place = ("router_settings" if there else "litellm_settings", option)
            message = f"no model group is called {name!r}."
            fix = near(name, known, "Add it to model_list, or remove it here.")
            file = document.where(place)
            yield Problem(key=f"{place[0]}.{key}", message=message, fix=fix, file=file)


def _strategies(config: Config) -> Iterator[tuple[Place, StrategyChoice | str | None]]:
    section = config.routeiq
    yield ("ROUTEIQ_STRATEGY",), config.settings.strategy
    yield ("routeiq", "strategy"), section.strategy
    yield ("routeiq", "balancing"), section.balancing
    for kind, members in (("groups", section.groups), ("profiles", section.profiles)):
        for name, member in members.items():
            yield ("routeiq", kind, name, "strategy"), member.strategy


def _strategy_problems(
    path: Place, choice: StrategyChoice | str, document: Document, models: set[str]
) -> Iterator[Problem]:
    key, file = ".".join(map(str, path)), document.where(path)
    name, options = (choice, {}) if isinstance(choice, str) else (choice.name, choice.options)
    try:
        found: Any = strategy_class(name, key=key)
        checked = found.Options.model_validate(options)
    except ConfigError as error:
        for problem in error.problems:
            yield Problem(key=key, message=problem.message, fix=problem.fix, file=file)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            where = ".".join(map(str, (key, "options", *detail["loc"])))
            known = ", ".join(sorted(found.Options.model_fields)) or "none"
            unknown = detail["type"] == "extra_forbidden"
            message = "is not an option." if unknown else f"cannot be used: {detail['msg']}."
            yield Problem(key=where, message=message, fix=f"Options of {name}: {known}.", file=file)
    else:
        for field in found.Options.model_groups:
            named = getattr(checked, field)
            if named is not None:
                yield from _unknown_model((*path, "options", field), named, document, models)
