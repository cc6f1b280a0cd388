from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from routeiq.config.model import RouterConfig
from routeiq.config.section import Profile, RouteIQSection, RoutingGroup
from routeiq.exceptions import ConfigError, InvalidRequest, ModelNotFound
from routeiq.routing.catalog import CACHE_SIZE, Catalog, Target
from routeiq.types import Deployment, ModelFacts
from tests.support.routing import deployment, facts


def catalog(
    *deployments: Deployment, router: RouterConfig | None = None, **section: Any
) -> Catalog:
    def facts_for(provider: str, model: str) -> ModelFacts:
        return ModelFacts(context_tokens=1000, quality=0.5, source=f"table:{provider}/{model}")

    return Catalog(deployments, router or RouterConfig(), RouteIQSection(**section), facts_for)


def ids(target: Target) -> list[list[str]]:
    return [[each.id for each in group] for group in target.groups]


A, A2, B = deployment("a1", "a"), deployment("a2", "a"), deployment("b")


def test_a_group_has_all_its_deployments() -> None:
    target = catalog(A, B, A2).resolve("a")
    assert ids(target) == [["a1", "a2"]]
    assert not target.routed


def test_an_alias_stands_for_its_group_and_hides_one_of_the_same_name() -> None:
    names = catalog(A, B, router=RouterConfig(aliases={"x": "a", "b": "a"}))
    assert ids(names.resolve("x")) == ids(names.resolve("b")) == [["a1"]]


def test_auto_is_every_native_chat_group() -> None:
    target = catalog(
        A,
        A2,
        B,
        deployment("e", facts=facts(mode="embedding")),
        deployment("c", facts=facts(mode="chat")),
        deployment("l", lane="litellm"),
        deployment("w", "openai/*"),
    ).resolve("auto")
    assert ids(target) == [["a1", "a2"], ["b"], ["c"]]
    assert target.routed
    assert target.chat_only


def test_auto_does_not_exist_without_chat_groups() -> None:
    with pytest.raises(ModelNotFound):
        catalog(deployment("e", facts=facts(mode="embedding"))).resolve("auto")


def test_a_model_group_called_auto_is_that_group() -> None:
    assert not catalog(deployment("x", "auto"), A).resolve("auto").routed


def test_own_routing_group_takes_names_globs_and_aliases_without_repeating() -> None:
    target = catalog(
        A,
        B,
        deployment("gpt-1"),
        deployment("gpt-2"),
        router=RouterConfig(aliases={"alias": "b"}),
        groups={
            "smart": RoutingGroup(
                models=("gpt-*", "alias", "a", "gpt-1"), profile="eco", strategy="random"
            )
        },
    ).resolve("smart")
    assert ids(target) == [["gpt-1"], ["gpt-2"], ["b"], ["a1"]]
    assert (target.profile, target.strategy, target.chat_only) == ("eco", "random", False)


def test_own_group_may_replace_auto() -> None:
    target = catalog(A, B, groups={"auto": RoutingGroup(models=("b",))}).resolve("auto")
    assert ids(target) == [["b"]]


def test_own_group_may_name_a_model_behind_a_wildcard() -> None:
    names = catalog(
        deployment("w", "openai/*", model="*"), groups={"g": RoutingGroup(models=("openai/x",))}
    )
    assert [each.model for each in names.resolve("g").groups[0]] == ["x"]


@pytest.mark.parametrize(
    ("name", "profile"), [("auto:eco", "eco"), ("eco", "eco"), ("g:own", "own"), ("own", "own")]
)
def test_profiles_can_be_asked_for_as_models(name: str, profile: str) -> None:
    names = catalog(A, B, groups={"g": RoutingGroup(models=("b",))}, profiles={"own": Profile()})
    target = names.resolve(name)
    assert target.profile == profile
    assert target.name == name
    assert target.routed


def test_a_group_wins_over_a_profile_of_the_same_name() -> None:
    assert not catalog(deployment("x", "eco"), A).resolve("eco").routed


def test_a_group_with_a_colon_is_a_group() -> None:
    assert ids(catalog(deployment("l", "llama3:70b")).resolve("llama3:70b")) == [["l"]]


def test_unknown_profile_of_a_routing_group_lists_the_known() -> None:
    with pytest.raises(InvalidRequest, match=r"'ecco' does not exist\. Known: auto, eco, premium"):
        catalog(A).resolve("auto:ecco")


def test_the_longest_matching_wildcard_wins() -> None:
    names = catalog(
        deployment("any", "*", model="*"),
        deployment("open", "openai/*", model="*"),
        deployment("four", "openai/gpt-4*", model="four-*"),
        deployment("four2", "openai/gpt-4*", model="fixed"),
    )
    assert [(d.id, d.model, d.group) for d in names.resolve("openai/gpt-4o").groups[0]] == [
        ("four", "four-o", "openai/gpt-4o"),
        ("four2", "fixed", "openai/gpt-4o"),
    ]
    assert names.resolve("openai/o1").groups[0][0].model == "o1"
    assert names.resolve("x/y").groups[0][0].model == "x/y"


@pytest.mark.parametrize(
    ("pattern", "model", "name", "expected"),
    [
        ("a/*/b/*", "x-*-*", "a/1/b/2", "x-1-2"),
        ("a/*/b/*", "x-*", "a/1/b/2", "a/1/b/2"),
        ("a/*", "*-*", "a/1", "1-"),
        ("a.b/*", "*", "a.b/*", "*"),
    ],
)
def test_parts_go_where_the_stars_are(pattern: str, model: str, name: str, expected: str) -> None:
    names = catalog(deployment("w", pattern, model=model))
    assert names.resolve(name).groups[0][0].model == expected


def test_wildcard_pattern_is_not_a_regular_expression() -> None:
    with pytest.raises(ModelNotFound):
        catalog(deployment("w", "a.b/*", model="*")).resolve("axb/c")


def test_wildcard_facts_are_looked_up_and_declared_ones_win() -> None:
    names = catalog(deployment("w", "openai/*", model="*", facts=facts(quality=0.9)))
    found = names.resolve("openai/x").groups[0][0].facts
    assert (found.quality, found.context_tokens, found.source) == (0.9, 1000, "table:openai/x")


def test_resolved_names_are_remembered_within_a_bound() -> None:
    names = catalog(deployment("w", "*", model="*"))
    first = names.resolve("n")
    assert names.resolve("n") is first
    for index in range(CACHE_SIZE + 1):
        names.resolve(f"n{index}")
    assert names.resolve("n") is not first


def test_overlong_names_match_no_wildcard() -> None:
    with pytest.raises(ModelNotFound):
        catalog(deployment("w", "*", model="*")).resolve("x" * 1000)


def test_unknown_model_suggests_only_listed_names() -> None:
    names = catalog(
        deployment("gpt-4o"),
        router=RouterConfig(
            aliases={"gpt-4o-secret": "gpt-4o"}, hidden_aliases=frozenset({"gpt-4o-secret"})
        ),
    )
    with pytest.raises(ModelNotFound) as caught:
        names.resolve("gpt-4o-secre")
    assert caught.value.message == "The model 'gpt-4o-secre' does not exist. Did you mean 'gpt-4o'?"
    assert caught.value.param == "model"


def test_unknown_model_without_a_near_name() -> None:
    with pytest.raises(ModelNotFound, match=r"does not exist\.$"):
        catalog(A).resolve("zzz")


def test_names_leave_hidden_aliases_and_wildcards_out() -> None:
    names = catalog(
        A,
        B,
        deployment("w", "openai/*"),
        router=RouterConfig(aliases={"x": "a", "y": "a"}, hidden_aliases=frozenset({"y"})),
        groups={"smart": RoutingGroup(models=("a",))},
    )
    assert names.names() == ["auto", "smart", "a", "b", "x"]


def test_problems_of_routing_groups_come_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        catalog(
            deployment("gpt-4o"),
            groups={
                "g": RoutingGroup(models=("gpt-4", "none-*"), profile="ecco"),
                "h": RoutingGroup(models=("zzz",)),
            },
        )
    assert [(p.key, p.fix) for p in caught.value.problems] == [
        ("routeiq.groups.g.profile", ""),
        ("routeiq.groups.g.models[0]", "Did you mean 'gpt-4o'?"),
        ("routeiq.groups.g.models[1]", ""),
        ("routeiq.groups.h.models[0]", ""),
    ]


@pytest.mark.parametrize(
    ("group", "kind", "expected"),
    [
        ("a", "general", ["b", "c"]),
        ("x", "general", ["z"]),
        ("z", "general", []),
        ("a", "context_window", ["long"]),
        ("x", "context_window", []),
        ("a", "content_policy", []),
        ("x", "content_policy", ["open"]),
    ],
)
def test_fallbacks_of_each_kind(group: str, kind: Any, expected: Sequence[str]) -> None:
    router = RouterConfig(
        fallbacks={"a": ("b", "a", "c")},
        context_window_fallbacks={"a": ("long",)},
        content_policy_fallbacks={"*": ("open",), "a": ("a",)},
        default_fallbacks=("z",),
    )
    assert list(catalog(A, router=router).fallbacks(group, kind)) == expected


def test_fallbacks_follow_alias_and_chosen_group_and_never_lead_back() -> None:
    router = RouterConfig(
        aliases={"nick": "a"},
        fallbacks={"a": ("b", "c"), "chosen": ("d", "a")},
        default_fallbacks=("z",),
    )
    catalog = Catalog([], router, RouteIQSection(), lambda provider, model: ModelFacts())
    assert catalog.fallbacks("a", "general") == ("b", "c")
    assert catalog.fallbacks("nick", "general") == ("b", "c")
    assert catalog.fallbacks("auto", "general", "chosen") == ("d", "a")
    assert catalog.fallbacks("a", "general", "chosen") == ("b", "c", "d")
    assert catalog.fallbacks("other", "general") == ("z",)
    assert catalog.fallbacks("other", "context_window") == ()
