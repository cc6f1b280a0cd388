from __future__ import annotations

import random
import time

import pytest

from routeiq.routing.affinity import conversation_key
from routeiq.routing.recent import GENERATION, Recent
from tests.support.clock import FakeClock

TTL_S = 1800.0


def test_the_memory_is_bounded_and_keeps_the_latest(clock: FakeClock) -> None:
    recent = Recent(ttl_s=TTL_S, size=100)
    for number in range(1000):
        recent.set(f"k{number}", "a", clock.now, clock.now)
        assert len(recent) <= 100
    assert recent.get("k999") == ("a", clock.now, clock.now)
    assert recent.get("k951") is not None
    assert recent.get("k899") is None


def test_the_memory_keeps_what_is_used_and_forgets_what_is_not(clock: FakeClock) -> None:
    recent = Recent(ttl_s=TTL_S, size=100)
    recent.set("idle", "a", clock.now, clock.now)
    for _ in range(70):
        clock.advance(TTL_S / 30)
        recent.set("used", "b", clock.now, clock.now)
    assert recent.get("used") == ("b", clock.now, clock.now)
    assert recent.get("idle") is None
    assert len(recent) <= 2


def test_names_that_nobody_uses_any_more_are_forgotten(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routeiq.routing.recent.MOST_DEPLOYMENTS", 3)
    recent = Recent(ttl_s=TTL_S, size=100)
    for name in ("a", "b", "c"):
        recent.set(name, name, clock.now, clock.now)
    assert recent.get("a") is None
    found = recent.get("c")
    assert found is not None
    assert found[0] == "c"


def test_no_pause_with_200000_conversations(clock: FakeClock) -> None:
    recent = Recent(ttl_s=TTL_S, size=400_000)
    keys = [conversation_key("t", str(number), "auto") for number in range(200_000)]
    worst = []
    random.Random(0).shuffle(keys)
    for _ in range(3):  # the second and third time all of them move to a new generation
        slowest = 0.0
        for start in range(0, len(keys), 100):
            before = time.thread_time()
            for key in keys[start : start + 100]:
                recent.set(key, "a", clock.now, clock.now)
            slowest = max(slowest, time.thread_time() - before)
        worst.append(slowest)
        clock.advance(TTL_S)
    assert all(recent.get(key) is not None for key in keys)
    assert min(worst) < 0.005
    # What takes long in a dictionary is proportional to its size; no shard's is large.
    assert max(len(shard.young) for shard in recent._shards) <= GENERATION
