from __future__ import annotations

from typing import Any

import pytest

from routeiq.access.principal import ModelAccess
from routeiq.exceptions import (
    ContextLengthExceeded,
    InvalidRequest,
    NoHealthyDeployment,
    PermissionDenied,
)
from routeiq.routing.eligibility import Slot, Why
from routeiq.routing.load import Load
from routeiq.routing.refusal import nobody
from routeiq.types import Capability, ModelFacts
from tests.support.routing import CHEAP, MIDDLE, STRONG, World, deployment, request


def slot(id: str, **facts: Any) -> Slot:
    one = deployment(id, facts=ModelFacts(**facts))
    return Slot(one, Load(), routed=True, chat_only=False)


def refused(*excluded: tuple[Slot, Why], waits: dict[str, float] | None = None, **more: Any) -> Any:
    known = waits or {}
    return nobody("auto", request(**more), excluded, lambda id: known.get(id, 0.0))


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ((Why.ACCESS,), PermissionDenied),
        ((Why.ACCESS, Why.PROFILE), PermissionDenied),
        ((Why.ACCESS, Why.BREAKER), NoHealthyDeployment),
        ((Why.TRIED,), NoHealthyDeployment),
        ((Why.BREAKER, Why.CONTEXT), NoHealthyDeployment),
        ((Why.CONTEXT, Why.REGION), ContextLengthExceeded),
        ((Why.ACCESS, Why.REGION), InvalidRequest),
        ((Why.TAGS,), InvalidRequest),
        ((Why.PROFILE,), InvalidRequest),
        ((), InvalidRequest),
    ],
)
def test_whose_it_is_to_change(reasons: tuple[Why, ...], kind: type[Exception]) -> None:
    error = refused(*((slot(f"s{n}"), why) for n, why in enumerate(reasons)))
    assert type(error) is kind


def test_who_waits_is_told_for_the_first_breaker_that_may_be_probed() -> None:
    excluded = [(slot("a"), Why.BREAKER), (slot("b"), Why.BREAKER), (slot("c"), Why.TRIED)]
    assert refused(*excluded, waits={"a": 9.0, "b": 4.0, "c": 1.0}).retry_after_s == 4.0
    assert refused((slot("c"), Why.TRIED)).retry_after_s is None


def test_a_request_that_is_too_long_is_told_the_largest_window() -> None:
    excluded = [
        (slot("a", context_tokens=8_000), Why.CONTEXT),
        (slot("b", context_tokens=32_000), Why.CONTEXT),
        (slot("c"), Why.REGION),
    ]
    error = refused(*excluded, input_tokens=50_000)
    assert "about 50000 tokens, the largest window 32000" in error.message
    assert (error.param, error.code) == ("messages", "context_length_exceeded")
    assert refused(*excluded, operation="embeddings").param == "input"


def test_what_is_missing_is_named() -> None:
    needs = frozenset({Capability.VISION})
    error = refused((slot("a", capabilities=frozenset()), Why.CAPABILITY), needs=needs)
    assert "Missing: vision" in error.message
    assert error.param == "model"


def test_long_names_are_cut() -> None:
    error = nobody("x" * 9_999, request(), [(slot("a"), Why.ACCESS)], lambda _: 0.0)
    assert len(error.message) < 300


def test_a_key_may_use_some_of_a_groups_models() -> None:
    world = World((CHEAP, MIDDLE, STRONG))
    access = ModelAccess([("mid*",)])
    assert world.router.decide(request(access=access)).chosen.id == "middle"
    with pytest.raises(PermissionDenied, match="may not use 'auto'"):
        world.router.decide(request(access=ModelAccess([("none",)])))
    with pytest.raises(PermissionDenied, match="may not use 'cheap'"):
        world.router.decide(request(model="cheap", access=access))
