from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from routeiq.embeddings.cache import FeatureCache, content_key
from routeiq.types import Capability, RoutingRequest

REQUEST = RoutingRequest(id="r", operation="chat", model="m", text="Why?", system="Be terse.")


def vector(value: float) -> Any:
    return np.full(2, value, np.float32)


def test_the_least_recently_used_goes_first() -> None:
    cache = FeatureCache(2)
    cache.put(b"a", vector(1))
    cache.put(b"b", vector(2))
    assert cache.get(b"a") is not None
    cache.put(b"c", vector(3))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.get(b"c") is not None
    assert len(cache) == 2


def test_hits_and_misses_are_counted() -> None:
    cache = FeatureCache(2)
    assert cache.get(b"a") is None
    cache.put(b"a", vector(1))
    assert cache.get(b"a") is not None
    assert (cache.hits, cache.misses) == (1, 1)


def test_what_is_handed_out_again_cannot_be_changed() -> None:
    cache, found = FeatureCache(2), vector(1)
    cache.put(b"a", found)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5


def test_a_cache_of_nothing_keeps_nothing() -> None:
    cache = FeatureCache(0)
    cache.put(b"a", vector(1))
    assert cache.get(b"a") is None
    assert len(cache) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Why not?"},
        {"text": "Why?Be terse.", "system": ""},
        {"text": "terse.Why?", "system": "Be "},
        {"system": "Be verbose."},
        {"turns": 2},
        {"needs": frozenset({Capability.VISION})},
    ],
)
def test_another_content_is_another_key(change: dict[str, Any]) -> None:
    assert content_key(replace(REQUEST, **change)) != content_key(REQUEST)


def test_who_asks_makes_no_difference() -> None:
    other = replace(
        REQUEST, id="s", model="n", caller="k", session_id="x", tags=frozenset({"t"}), stream=True
    )
    assert content_key(other) == content_key(REQUEST)


def test_the_order_of_needs_makes_no_difference() -> None:
    needs = [Capability.VISION, Capability.TOOLS, Capability.REASONING]
    keys = {content_key(replace(REQUEST, needs=frozenset(n))) for n in (needs, needs[::-1])}
    assert len(keys) == 1


def test_lone_surrogates_have_a_key() -> None:
    assert content_key(replace(REQUEST, text="\ud800")) != content_key(REQUEST)
