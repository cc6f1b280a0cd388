"""The names that clients can ask for, and the deployments behind each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import Literal

from routeiq.config.model import RouterConfig
from routeiq.config.section import RouteIQSection, RoutingGroup, StrategyChoice
from routeiq.exceptions import ConfigError, InvalidRequest, ModelNotFound, Problem, RequestError
from routeiq.types import Deployment, ModelFacts

AUTO = "auto"
CHAT_MODES = frozenset({None, "chat", "responses"})
LONGEST_NAME = 256
CACHE_SIZE = 1024
"""Names resolved through wildcards that are remembered; the client picks them, so there is a bound."""

FallbackKind = Literal["general", "context_window", "content_policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a name stands for: one model group, or (`routed`) several between which a strategy chooses.

    `chat_only` says that models of unknown mode count as chat models: the implicit `auto`.
    """

    name: str
    groups: tuple[tuple[Deployment, ...], ...]
    routed: bool = False
    chat_only: bool = False
    profile: str | None = None
    strategy: StrategyChoice | str | None = None


@dataclass(frozen=True, slots=True)
class _Wildcard:
    pattern: str
    regex: re.Pattern[str]
    deployments: tuple[Deployment, ...]


class Catalog:
    """Resolves names. Built once from the configuration; remembers what it resolved.

    `facts_for(provider, model)` gives the facts of a model that only a wildcard matched; what the
    operator declared on the wildcard's own entry wins.

    Raises:
        ConfigError: a routing group names a model group or profile that does not exist.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        router: RouterConfig,
        section: RouteIQSection,
        facts_for: Callable[[str, str], ModelFacts],
    ) -> None:
        self.deployments = tuple(deployments)
        self._router = router
        self._facts_for = facts_for
        self._profiles = section.all_profiles()
        self._resolved: dict[str, Target] = {}
        by_group: dict[str, list[Deployment]] = {}
        for deployment in deployments:
            by_group.setdefault(deployment.group, []).append(deployment)
        self._groups = {name: tuple(them) for name, them in by_group.items() if "*" not in name}
        self._wildcards = _wildcards(by_group)
        self._routing = self._routing_groups(section)

    def resolve(self, model: str) -> Target:
        """What `model` stands for.

        Looked up in this order: alias (as in LiteLLM, it hides a group), model group, routing group
        (`auto`, the operator's), routing group with a profile (`auto:eco`), bare profile (`eco`), wildcard.

        Raises:
            ModelNotFound: nothing matches; suggests the nearest name of `names`.
            InvalidRequest: a routing group with a profile that does not exist.
        """
        target = self._resolved.get(model)
        if target is None:
            target = self._find(self._router.aliases.get(model, model))
            if target is None:
                raise self._not_found(model)
            if len(self._resolved) >= CACHE_SIZE:
                self._resolved.clear()
            self._resolved[model] = target
        return target

    def named_profile(self, model: str) -> str | None:
        """The profile that `model` asks for by name (`eco`, `auto:eco`), if it is one and does.

        That of an operator's routing group is not asked for: the group is.
        """
        try:
            target = self.resolve(model)
        except RequestError:  # whoever resolves it to use it says what is wrong
            return None
        return None if target.name in self._routing else target.profile

    def names(self) -> list[str]:
        """Routing groups, model groups, aliases that are not hidden: for `GET /v1/models`."""
        hidden = self._router.hidden_aliases
        aliases = [alias for alias in self._router.aliases if alias not in hidden]
        return list(dict.fromkeys([*self._routing, *self._groups, *aliases]))

    def fallbacks(self, group: str, kind: FallbackKind, *chosen: str) -> tuple[str, ...]:
        """Model groups to try when `group` failed in this way, in order; `*` stands for every group.

        Those of the name that was asked for come first, then those of what it is an alias of, then those
        of the groups in `chosen`, which stood in for it.
        """
        router = self._router
        table: Mapping[str, tuple[str, ...]] = {
            "general": router.fallbacks,
            "context_window": router.context_window_fallbacks,
            "content_policy": router.content_policy_fallbacks,
        }[kind]
        asked = (group, router.aliases.get(group, group), *chosen)
        found = dict.fromkeys(name for one in asked for name in table.get(one, ()))
        if not found:
            found = dict.fromkeys(table.get("*", ()))
        if not found and kind == "general":
            found = dict.fromkeys(router.default_fallbacks)
        return tuple(name for name in found if name not in asked)

    def _find(self, name: str) -> Target | None:
        group = self._groups.get(name)
        if group is not None:
            return Target(name=name, groups=(group,))
        routed = self._routing.get(name)
        if routed is not None:
            return routed
        prefix, colon, profile = name.rpartition(":")
        if colon and prefix in self._routing:
            if profile not in self._profiles:
                raise unknown_profile(profile, self._profiles, param="model")
            return replace(self._routing[prefix], name=name, profile=profile)
        if name in self._profiles and AUTO in self._routing:
            return replace(self._routing[AUTO], name=name, profile=name)
        concrete = self._match(name)
        return Target(name=name, groups=(concrete,)) if concrete else None

    def _match(self, name: str) -> tuple[Deployment, ...]:
        """Deployments of the most specific wildcard that matches, made concrete."""
        if len(name) > LONGEST_NAME:
            return ()
        for wildcard in self._wildcards:
            match = wildcard.regex.fullmatch(name)
            if match is not None:
                return tuple(
                    self._concrete(deployment, name, match.groups())
                    for deployment in wildcard.deployments
                )
        return ()

    def _concrete(self, deployment: Deployment, name: str, parts: tuple[str, ...]) -> Deployment:
        model = deployment.model
        pieces = model.split("*")
        if len(pieces) > 1:
            if len(pieces) > len(parts):
                model = "".join(a + b for a, b in zip_longest(pieces, parts, fillvalue=""))
            else:  # more parts than places for them: the whole name goes up, as in LiteLLM
                model = name
        known = self._facts_for(deployment.provider, model)
        said = {key: getattr(deployment.facts, key) for key in _FACTS}
        said = {key: value for key, value in said.items() if value is not None}
        return replace(deployment, group=name, model=model, facts=replace(known, **said))

    def _routing_groups(self, section: RouteIQSection) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        problems: list[Problem] = []
        if AUTO not in section.groups and (chat := self._chat_groups()):
            targets[AUTO] = Target(name=AUTO, groups=chat, routed=True, chat_only=True)
        for name, group in section.groups.items():
            if group.profile is not None and group.profile not in self._profiles:
                problem = str(unknown_profile(group.profile, self._profiles))
                problems.append(Problem(key=f"routeiq.groups.{name}.profile", message=problem))
            targets[name] = self._routing_group(name, group, problems)
        if problems:
            raise ConfigError(problems)
        return targets

    def _chat_groups(self) -> tuple[tuple[Deployment, ...], ...]:
        usable = (
            tuple(d for d in group if d.lane == "native" and d.facts.mode in CHAT_MODES)
            for group in self._groups.values()
        )
        return tuple(group for group in usable if group)

    def _routing_group(self, name: str, group: RoutingGroup, problems: list[Problem]) -> Target:
        members: dict[str, tuple[Deployment, ...]] = {}
        for index, pattern in enumerate(group.models):
            found = self._members(pattern)
            if not found:
                message = f"no model group matches {pattern!r}."
                fix = suggestion(pattern, self._groups)
                key = f"routeiq.groups.{name}.models[{index}]"
                problems.append(Problem(key=key, message=message, fix=fix))
            members.update(found)
        return Target(
            name=name,
            groups=tuple(members.values()),
            routed=True,
            profile=group.profile,
            strategy=group.strategy,
        )

    def _members(self, pattern: str) -> dict[str, tuple[Deployment, ...]]:
        """The model groups that an entry of a routing group names: exactly, as a glob, or by wildcard."""
        name = self._router.aliases.get(pattern, pattern)
        if name in self._groups:
            return {name: self._groups[name]}
        found = {key: them for key, them in self._groups.items() if fnmatchcase(key, pattern)}
        if not found and not set("*?[") & set(pattern) and (concrete := self._match(name)):
            found = {name: concrete}
        return found

    def _not_found(self, model: str) -> ModelNotFound:
        fix = suggestion(model, self.names())
        return ModelNotFound(
            f"The model {model[:100]!r} does not exist.{' ' if fix else ''}{fix}", param="model"
        )


_FACTS = tuple(name for name in ModelFacts.__dataclass_fields__ if name != "source")


def _wildcards(by_group: Mapping[str, Sequence[Deployment]]) -> list[_Wildcard]:
    """Most specific first, as LiteLLM orders them: the longest pattern, then the one with more stars."""
    names = sorted(
        (name for name in by_group if "*" in name),
        key=lambda name: (len(name), name.count("*")),
        reverse=True,
    )
    return [
        _Wildcard(
            name,
            re.compile("(.*)".join(re.escape(part) for part in name.split("*")), re.DOTALL),
            tuple(by_group[name]),
        )
        for name in names
    ]


def suggestion(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest known name, or nothing."""
    near = get_close_matches(name[:100], list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def unknown_profile(name: str, known: Iterable[str], *, param: str | None = None) -> InvalidRequest:
    """The error for a profile that does not exist, with those that do."""
    return InvalidRequest(
        f"The profile {name[:100]!r} does not exist. Known: {', '.join(known)}.", param=param
    )
