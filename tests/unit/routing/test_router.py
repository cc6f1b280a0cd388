from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.config.model import RouterConfig
from routeiq.config.section import Profile, RouteIQSection, RoutingGroup, StrategyChoice
from routeiq.exceptions import (
    ConfigError,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    NoHealthyDeployment,
)
from routeiq.routing.router import PLAN_CACHE_SIZE
from routeiq.types import Capability, Outcome, Usage
from tests.support.routing import (
    CHEAP,
    MIDDLE,
    STRONG,
    World,
    deployment,
    facts,
    request,
)

EASY = "What is the capital of France?"
MEDIUM = "Compare TCP with UDP for a video game and say which is better."
HARD = (
    "Let f be an integrable function on the real line. Prove that its Fourier transform is uniformly "
    "continuous, derive a rate of decay, and justify each step with a rigorous argument, assuming only "
    "dominated convergence, Fubini, and the density of smooth functions."
)
VISION = frozenset({Capability.VISION})
TRIO = (STRONG, CHEAP, MIDDLE)


def section(**profile: object) -> RouteIQSection:
    """A section whose default profile is `own`, made of these conditions."""
    return RouteIQSection(profile="own", profiles={"own": Profile.model_validate(profile)})


def test_auto_sends_easy_prompts_to_cheap_models_and_hard_ones_to_strong_ones() -> None:
    world = World(TRIO)
    assert world.choose(EASY) == "cheap"
    assert world.choose(MEDIUM) == "middle"
    assert world.choose(HARD) == "strong"


def test_ranking_has_every_eligible_model_as_a_fallback() -> None:
    assert World(TRIO).order(EASY) == ["cheap", "middle", "strong"]


@pytest.mark.parametrize(
    ("profile", "easy", "hard"),
    [
        ("premium", "strong", "strong"),
        ("eco", "cheap", "strong"),  # none of the others reaches eco's floor
        ("auto", "cheap", "strong"),
    ],
)
def test_profiles_trade_quality_and_cost(profile: str, easy: str, hard: str) -> None:
    world = World(TRIO)
    assert world.choose(EASY, profile=profile) == easy
    assert world.choose(HARD, profile=profile) == hard
    assert world.choose(EASY, model=profile) == easy
    assert world.choose(EASY, model=f"auto:{profile}") == easy


def test_free_profile_takes_only_models_known_to_be_free() -> None:
    free, unknown = deployment("free", facts=facts((0.0, 0.0))), deployment("unknown")
    decision = World((*TRIO, unknown, free)).router.decide(request(HARD, profile="free"))
    assert [ranked.deployment.id for ranked in decision.ranking] == ["free"]
    assert {one.deployment_id for one in decision.exclusions} == {
        "strong",
        "cheap",
        "middle",
        "unknown",
    }
    assert decision.exclusions[0].reason == "outside the profile 'free'"


def test_latency_weight_prefers_the_faster() -> None:
    world = World([deployment("x"), deployment("y")], section=section(latency_weight=0.5))
    world.load.finished("x", 2.0)
    world.load.finished("y", 0.5)
    decision = world.router.decide(request())
    assert decision.chosen.id == "y"
    assert "quality and cost and latency" in decision.reason
    first, second = decision.ranking
    assert first.utility - second.utility == pytest.approx(0.5 * 1.5)


def test_cost_limit_excludes_the_dear_and_the_unknown_priced() -> None:
    world = World((*TRIO, deployment("unknown")), section=section(max_cost_usd=0.005))
    decision = world.router.decide(request(HARD))
    assert [ranked.deployment.id for ranked in decision.ranking] == ["middle", "cheap"]
    assert {one.deployment_id: one.reason for one in decision.exclusions} == {
        "strong": "above the profile's cost limit",
        "unknown": "above the profile's cost limit",
    }


def test_nothing_within_the_cost_limit_is_the_callers_problem() -> None:
    with pytest.raises(InvalidRequest, match="3 above the profile's cost limit"):
        World(TRIO, section=section(max_cost_usd=1e-9)).choose()


def test_predicted_cost_is_tokens_times_price() -> None:
    world = World([MIDDLE])
    cost = world.router.decide(request(input_tokens=1000)).ranking[0].cost_usd
    assert cost == pytest.approx(1000 * 2e-6 + 256 * 8e-6)
    short = request(input_tokens=1000, max_output_tokens=10, choices=2)
    assert world.router.decide(short).ranking[0].cost_usd == pytest.approx(1000 * 2e-6 + 20 * 8e-6)


def test_embeddings_have_no_output_cost() -> None:
    one = deployment("e", facts=facts(input_usd_per_token=1e-6))
    decision = World([one]).router.decide(request(model="e", operation="embeddings"))
    assert decision.ranking[0].cost_usd == pytest.approx(1e-4)
    assert World([one]).router.decide(request(model="e")).ranking[0].cost_usd is None


def test_decision_says_what_happened() -> None:
    decision = World(TRIO).router.decide(request(EASY))
    assert decision.requested == "auto"
    assert decision.strategy == "prior"
    assert decision.profile == "auto"
    assert decision.hint_followed is None
    assert decision.propensity == 1.0
    assert len(decision.id) == 24
    assert decision.reason == (
        "difficulty 0.00 (short and plain); cheap has the best balance of quality and cost under "
        "profile auto of 3 eligible models (3 in auto)"
    )


def test_decision_ids_differ() -> None:
    world = World(TRIO)
    assert world.router.decide(request()).id != world.router.decide(request()).id


def test_reason_admits_that_nobody_reaches_the_floor() -> None:
    world = World([CHEAP, MIDDLE], section=section(min_quality=0.99))
    decision = world.router.decide(request(HARD))
    assert decision.chosen.id == "middle"
    assert "best predicted quality, below the floor 0.99" in decision.reason


def test_quality_declared_by_the_operator_wins_over_price() -> None:
    gem = deployment("gem", facts=facts((0.1, 0.1), quality=0.97))
    assert World([*TRIO, gem]).choose(HARD) == "gem"


def test_request_that_needs_vision_goes_only_where_it_is() -> None:
    blind = deployment("blind", facts=facts((0.1, 0.1), capabilities=frozenset()))
    sees = deployment("sees", facts=facts((5.0, 5.0), capabilities=VISION))
    world = World([blind, sees])
    assert world.choose(EASY) == "blind"
    assert world.order(EASY, needs=VISION) == ["sees"]


def test_nobody_with_the_capability_is_the_callers_problem() -> None:
    blind = deployment("blind", facts=facts(capabilities=frozenset()))
    with pytest.raises(InvalidRequest, match=r"Missing: vision\.") as caught:
        World([blind]).choose(model="blind", needs=VISION)
    assert caught.value.status == 400


def test_too_long_for_every_window_is_openais_error() -> None:
    small = deployment("small", facts=facts(context_tokens=1000))
    for model in ("small", "auto"):
        with pytest.raises(ContextLengthExceeded, match="about 9000 tokens") as caught:
            World([small]).choose(model=model, input_tokens=9000)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.param == "messages"


def test_open_breakers_are_ours_to_wait_for() -> None:
    world = World([deployment("a1", "a"), deployment("a2", "a")])
    world.breakers.failure("a1")
    world.clock.advance(10)
    assert world.order(model="a") == ["a2"]
    world.breakers.failure("a2")
    with pytest.raises(NoHealthyDeployment, match="2 with an open circuit breaker") as caught:
        world.choose(model="a")
    assert caught.value.retry_after_s == 20
    world.clock.advance(20)
    assert world.order(model="a") == ["a1"]  # its probe


def test_excluded_ids_are_not_chosen_again() -> None:
    world = World(TRIO)
    decision = world.router.decide(request(EASY), exclude=frozenset({"cheap"}))
    assert [ranked.deployment.id for ranked in decision.ranking] == ["middle", "strong"]
    with pytest.raises(NoHealthyDeployment, match="already tried") as caught:
        world.router.decide(request(model="cheap"), exclude=frozenset({"cheap"}))
    assert caught.value.retry_after_s is None


def test_a_fallback_model_stands_in_for_the_requests() -> None:
    decision = World(TRIO).router.decide(request(model="cheap"), model="strong")
    assert (decision.requested, decision.chosen.id) == ("cheap", "strong")
    assert decision.reason.startswith("fallback to strong: strong was asked for by name")


def test_unknown_model_and_profile() -> None:
    world = World(TRIO)
    with pytest.raises(ModelNotFound, match="Did you mean 'cheap'"):
        world.choose(model="cheep")
    with pytest.raises(InvalidRequest, match=r"'ecco' does not exist\. Known: auto, eco"):
        world.choose(profile="ecco")


def test_named_model_ignores_what_a_profile_would_forbid() -> None:
    decision = World(TRIO).router.decide(request(HARD, model="strong", profile="free"))
    assert decision.chosen.id == "strong"
    assert decision.profile is None
    assert decision.reason == "strong was asked for by name; one deployment"


def test_auto_takes_no_embeddings() -> None:
    with pytest.raises(InvalidRequest, match="for another kind of request"):
        World(TRIO).choose(operation="embeddings")


@pytest.mark.parametrize("filtering", [True, False])
def test_tags_count_only_where_filtering_is_on(filtering: bool) -> None:
    a, b = deployment("a", "g", tags=frozenset({"x"})), deployment("b", "g")
    world = World([b, a], router=RouterConfig(tag_filtering=filtering))
    assert len(world.order(model="g", tags=frozenset({"x"}))) == (1 if filtering else 2)


def test_strategy_setting_wins_over_the_section() -> None:
    own = RouteIQSection(strategy="lowest-cost")
    assert World(TRIO, section=own).router.decide(request(HARD)).strategy == "lowest-cost"
    world = World(TRIO, section=own, strategy="prior")
    assert world.router.decide(request(HARD)).strategy == "prior"
    assert world.router.strategy_name == "prior"
    assert world.router.balancing_name == "round-robin"


def test_strategy_of_profile_goes_before_that_of_group_before_the_default() -> None:
    own = RouteIQSection(
        groups={"g": RoutingGroup(models=("*",), strategy="least-busy")},
        profiles={"p": Profile(strategy="lowest-cost")},
    )
    world = World(TRIO, section=own)
    found = [
        world.router.decide(request(model=model, profile=profile)).strategy
        for model, profile in (("auto", None), ("g", None), ("g", "p"), ("g:p", None))
    ]
    assert found == ["prior", "least-busy", "lowest-cost", "lowest-cost"]


def test_groups_own_profile_goes_before_the_default_and_after_the_requests() -> None:
    own = RouteIQSection(groups={"g": RoutingGroup(models=("*",), profile="premium")})
    world = World(TRIO, section=own)
    assert world.choose(EASY, model="g") == "strong"
    assert world.choose(EASY, model="g", profile="auto") == "cheap"


def test_every_problem_with_strategies_is_told_at_once() -> None:
    own = RouteIQSection(
        strategy="priorr",
        balancing=StrategyChoice(name="random", options={"sed": 1}),
        groups={"g": RoutingGroup(models=("*",), strategy="none")},
    )
    with pytest.raises(ConfigError) as caught:
        World(TRIO, section=own)
    assert [(p.key, p.fix) for p in caught.value.problems] == [
        ("routeiq.strategy", "Did you mean 'prior'?"),
        ("routeiq.balancing.options.sed", "Options of 'random': seed."),
        ("routeiq.groups.g.strategy", caught.value.problems[2].fix),
    ]


def test_unknown_default_profile_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"routeiq\.profile: The profile 'nope'"):
        World(TRIO, section=RouteIQSection(profile="nope"))


def test_plans_are_remembered_within_a_bound() -> None:
    world = World([deployment("w", "*", model="*")])
    for index in range(PLAN_CACHE_SIZE + 2):
        assert world.choose(model=f"m{index}") == "w"


IDS = [f"d{index}" for index in range(6)]


@given(
    groups=st.lists(st.sampled_from("xyz"), min_size=6, max_size=6),
    orders=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    exclude=st.sets(st.sampled_from(IDS)),
    broken=st.sets(st.sampled_from(IDS)),
    model=st.sampled_from(["auto", "x", "eco"]),
    hint=st.sampled_from([None, "x", "y", "d0"]),
)
def test_ranking_is_a_permutation_of_the_eligible(
    groups: list[str],
    orders: list[int],
    exclude: set[str],
    broken: set[str],
    model: str,
    hint: str | None,
) -> None:
    pool = [
        deployment(id, group, order=order, facts=facts((index, index)))
        for index, (id, group, order) in enumerate(zip(IDS, groups, orders, strict=True))
    ]
    world = World([*pool, deployment("extra", "x", order=9)])
    for id in broken:
        world.breakers.failure(id)
    wanted = {each.id for each in pool if model != "x" or each.group == "x"} | {"extra"}
    decision = world.router.decide(request(model=model, hint=hint), exclude=frozenset(exclude))
    ranked = [each.deployment.id for each in decision.ranking]
    assert sorted(ranked) == sorted(wanted - exclude - broken)
    assert {one.deployment_id for one in decision.exclusions} == wanted & (exclude | broken)
    by_group: dict[str, list[int]] = {}
    for each in decision.ranking:
        by_group.setdefault(each.deployment.group, []).append(each.deployment.order)
    assert all(found == sorted(found) for found in by_group.values())


@pytest.mark.parametrize(("strategy", "propensity"), [("prior", 1.0), ("random", None)])
def test_propensity_is_unknown_where_chance_chose(strategy: str, propensity: float | None) -> None:
    world = World(TRIO, strategy=strategy)
    assert world.router.decide(request(EASY)).propensity == propensity


def test_costs_are_predicted_from_the_lengths_of_the_answers_seen() -> None:
    world = World([deployment("a", facts=facts((0.0, 10.0)))])
    usage = Usage(input_tokens=1, output_tokens=2000)
    asked = request(choices=2)
    decision = world.router.decide(asked)
    outcome = Outcome(
        kind="success",
        status=200,
        deployment=decision.chosen,
        attempts=(),
        latency_ms=1.0,
        usage=usage,
    )
    for _ in range(500):
        world.router.observe(asked, decision, outcome)
    (after,) = world.router.decide(request()).ranking
    assert after.cost_usd == pytest.approx(1000 * 10e-6, rel=0.05)
