from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.section import Profile
from routeiq.routing.eligibility import (
    Slot,
    Why,
    exclusion,
    outside_profile,
    select,
    summary,
)
from routeiq.routing.load import LoadTracker
from routeiq.types import Capability, Deployment, RoutingRequest
from tests.support.clock import FakeClock
from tests.support.routing import deployment, facts, request

LOAD = LoadTracker(FakeClock())


def reasons(
    *deployments: Deployment,
    to: RoutingRequest | None = None,
    routed: bool = True,
    closed: frozenset[str] = frozenset(),
    exclude: frozenset[str] = frozenset(),
    tag_filtering: bool = False,
    chat_only: bool = False,
) -> dict[str, Why]:
    """Why each excluded deployment is excluded."""
    slots = [
        Slot(each, LOAD.of(each.id), routed=routed, chat_only=chat_only) for each in deployments
    ]
    eligible, excluded = select(
        slots,
        to or request(),
        allows=lambda id: id not in closed,
        exclude=exclude,
        routed=routed,
        tag_filtering=tag_filtering,
    )
    assert {slot.id for slot in eligible} | {slot.id for slot, _ in excluded} == {
        each.id for each in deployments
    }
    return {slot.id: why for slot, why in excluded}


A, B = deployment("a"), deployment("b")
TOOLS = frozenset({Capability.TOOLS})


def test_tried_and_broken_deployments_are_out() -> None:
    out = reasons(A, B, exclude=frozenset({"a"}), closed=frozenset({"a", "b"}))
    assert out == {"a": Why.TRIED, "b": Why.BREAKER}


def test_a_missing_capability_excludes_and_an_unknown_one_does_not() -> None:
    has = deployment("has", facts=facts(capabilities=TOOLS))
    lacks = deployment("lacks", facts=facts(capabilities=frozenset()))
    assert reasons(A, has, lacks, to=request(needs=TOOLS)) == {"lacks": Why.CAPABILITY}
    assert reasons(A, has, lacks) == {}


@pytest.mark.parametrize(
    ("routed", "tokens", "output", "out"),
    [
        (True, 1000, None, False),
        (True, 1001, None, True),
        (True, 800, 201, True),
        (False, 1333, 5000, False),  # asked for by name: only what is surely too long
        (False, 1334, None, True),
    ],
)
def test_context_window_excludes_what_does_not_fit(
    routed: bool, tokens: int, output: int | None, out: bool
) -> None:
    small = deployment("s", facts=facts(context_tokens=1000))
    to = request(input_tokens=tokens, max_output_tokens=output)
    assert reasons(small, A, to=to, routed=routed) == ({"s": Why.CONTEXT} if out else {})


def test_a_wanted_region_excludes_others_and_unknown_ones() -> None:
    eu, us = deployment("eu", region="eu"), deployment("us", region="us")
    assert reasons(eu, us, A, to=request(region="eu")) == {"us": Why.REGION, "a": Why.REGION}
    assert reasons(eu, us, A) == {}


@pytest.mark.parametrize(
    ("mode", "operation", "out"),
    [
        ("chat", "chat", False),
        ("chat", "embeddings", True),
        ("embedding", "embeddings", False),
        ("embedding", "chat", True),
        ("completion", "completions", False),
        ("responses", "chat", True),
        ("image_generation", "chat", True),
        (None, "embeddings", False),
    ],
)
def test_a_known_mode_excludes_other_operations_when_routed(
    mode: str | None, operation: Any, out: bool
) -> None:
    one = deployment("x", facts=facts(mode=mode))
    to = request(operation=operation)
    assert bool(reasons(one, to=to)) is out
    assert reasons(one, to=to, routed=False) == {}


def test_unknown_mode_counts_as_chat_in_the_implicit_auto() -> None:
    assert reasons(A, to=request(operation="embeddings"), chat_only=True) == {"a": Why.OPERATION}
    assert reasons(A, chat_only=True) == {}


RED = deployment("red", tags=frozenset({"red", "warm"}))
DEFAULT = deployment("default", tags=frozenset({"default"}))


@pytest.mark.parametrize(
    ("pool", "tags", "left"),
    [
        ((RED, DEFAULT, A), {"warm"}, {"red"}),
        ((RED, DEFAULT, A), {"blue"}, {"default"}),
        ((RED, DEFAULT, A), set(), {"default"}),
        ((RED, A), set(), {"red", "a"}),
        ((RED, A), {"blue"}, set()),
    ],
)
def test_tags_filter_as_in_litellm(
    pool: tuple[Deployment, ...], tags: set[str], left: set[str]
) -> None:
    to = request(tags=frozenset(tags))
    out = reasons(*pool, to=to, tag_filtering=True)
    assert {each.id for each in pool} - set(out) == left
    assert set(out.values()) <= {Why.TAGS}
    assert reasons(*pool, to=to, tag_filtering=False) == {}


@pytest.mark.parametrize(
    ("profile", "known", "out"),
    [
        (Profile(models=("gpt-*",)), {}, True),
        (Profile(models=("x", "a*")), {}, False),
        (Profile(require=TOOLS), {"capabilities": TOOLS}, False),
        (Profile(require=TOOLS), {"capabilities": frozenset()}, True),
        (Profile(require=TOOLS), {}, True),  # must be known to have it
        (Profile(free_only=True), {"price": (0.0, 0.0)}, False),
        (Profile(free_only=True), {"price": (0.0, 0.1)}, True),
        (Profile(free_only=True), {}, True),  # an unknown price is never free
        (Profile(), {}, False),
    ],
)
def test_profile_conditions(profile: Profile, known: dict[str, Any], out: bool) -> None:
    assert outside_profile(deployment("a", facts=facts(**known)), profile) is out


def test_exclusions_are_told_in_words_with_figures() -> None:
    one = deployment("x", facts=facts(capabilities=frozenset(), context_tokens=10))
    slot = Slot(one, LOAD.of("x"), routed=True, chat_only=False)
    to = request(needs=TOOLS | {Capability.VISION}, input_tokens=20)
    assert exclusion(slot, Why.CAPABILITY, to).reason == "lacks tools, vision"
    assert exclusion(slot, Why.CONTEXT, to).reason == (
        "context window of 10 tokens, request of about 20"
    )
    assert exclusion(slot, Why.BREAKER, to).reason == "with an open circuit breaker"
    excluded = [(slot, Why.BREAKER), (slot, Why.TRIED), (slot, Why.BREAKER)]
    assert summary(excluded) == "2 with an open circuit breaker, 1 already tried"
