"""Rate limits over HTTP: what is admitted, what is counted after, and what happens while Redis is away."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from routeiq.values import value
from tests.integration.access import (
    CHAT,
    Fleet,
    Made,
    Pending,
    bearer,
    models,
    shared_fleet,
    sqlite_fleet,
    together,
    until,
)
from tests.integration.helpers import assert_error, write
from tests.support.processes import SimulatorProcess, start_simulator

DURATION = re.compile(r"(\d+h)?(\d+m)?\d+(\.\d+)?m?s")
LEASES_BACK_S = 2.5
"""What workers lease and do not use is back after a second and a flush."""
SLOTS_TTL_S = 30.0


@pytest.fixture(scope="module")
def sqlite(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    path = write(tmp_path_factory.mktemp("sqlite"), {"model_list": models(simulator.url)})
    with sqlite_fleet(path) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    path = write(tmp_path_factory.mktemp("shared"), {"model_list": models(simulator.url)})
    with shared_fleet(path) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "shared"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    found: Fleet = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sim(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    simulator.reset()
    yield simulator
    simulator.reset()


@value
class Bereaved:
    """A gateway that lost a worker with two requests of `lost` under way; one of `kept` still is, on the other."""

    fleet: Fleet
    lost: Made
    kept: Made
    waiting: Pending
    killed: float


@pytest.fixture(scope="module", autouse=True)
def bereaved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bereaved]:
    """Made before the other tests, because what becomes of it is seen half a minute later."""
    folder = tmp_path_factory.mktemp("bereaved")
    with (
        start_simulator() as own,
        sqlite_fleet(write(folder, {"model_list": models(own.url)})) as fleet,
    ):
        lost, kept = (fleet.key(limits={"concurrent_requests": slots}) for slots in (2, 1))
        own.behave("hang", "sim-medium")
        victim, survivor = (line.pid for line in fleet.lines)
        held = [fleet.send(lost.secret, "sim-medium", pid=victim) for _ in range(2)]
        waiting = fleet.send(kept.secret, "sim-medium", pid=survivor)
        until(lambda: own.stats()["in_flight"] == 3, "three are under way", 1.0)
        os.kill(victim, signal.SIGKILL)
        fleet.hang_up()
        for one in held:
            one.leave()
        yield Bereaved(fleet=fleet, lost=lost, kept=kept, waiting=waiting, killed=time.monotonic())
        waiting.leave()


def levels(fleet: Fleet, **limits: int) -> dict[str, list[str]]:
    """Secrets that share a limit, by the level that has it."""
    settings = {"limits": limits}
    user = fleet.make("user", settings=settings)
    team = fleet.make("team", settings=settings)
    member = fleet.make("user", team=team.id)
    return {
        "key": [fleet.key(**settings).secret],
        "user": [fleet.make("key", user=user.id).secret for _ in range(2)],
        "team": [
            fleet.make("key", user=member.id).secret,
            fleet.make("key", team=team.id).secret,
        ],
    }


def seconds() -> float:
    return datetime.now(UTC).timestamp()


def test_exactly_n_requests_a_minute_are_admitted(fleet: Fleet, sim: SimulatorProcess) -> None:
    n, more = 20, 12
    secrets = levels(fleet, requests_per_minute=n)
    begun = seconds()

    def burst(number: int) -> tuple[str, int]:
        level = ("key", "user", "team")[number % 3]
        keys = secrets[level]
        return level, fleet.chat(keys[number // 3 % len(keys)], text=level).status

    answers = together(burst, 3 * (n + more))
    end = time.monotonic() + LEASES_BACK_S
    while time.monotonic() < end:  # what workers had leased and did not need
        for level, keys in secrets.items():
            asked = [fleet.chat(keys[-1], text=level, line=line).status for line in fleet.lines]
            answers += [(level, status) for status in asked]
            if 200 in asked:
                end = time.monotonic() + LEASES_BACK_S
        time.sleep(0.1)
    assert {status for _, status in answers} == {200, 429}
    most = n
    if int(begun // 60) != int(seconds() // 60):  # the minute before counts less and less
        most += int(n * (seconds() % 60) / 60)
    prompts = [one["json"]["messages"][0]["content"] for one in sim.requests()]
    for level in secrets:
        admitted = answers.count((level, 200))
        assert n <= admitted <= most, (level, admitted)
        assert prompts.count(level) == admitted


def test_a_refusal_says_what_openai_says(fleet: Fleet) -> None:
    key = fleet.key(limits={"requests_per_minute": 2, "tokens_per_minute": 50_000})
    first = fleet.chat(key.secret)
    assert first.status == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "50000"
    assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 50_000
    assert fleet.chat(key.secret, stream=True).headers["x-ratelimit-remaining-requests"] == "0"
    for _ in range(3):
        refused = fleet.chat(key.secret)
        error = assert_error(refused, 429, "rate_limit_exceeded", says="requests per minute (RPM)")
        assert "limit 2" in error["message"]
        assert error["type"] in ("requests", "rate_limit_error")
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert refused.headers["x-ratelimit-limit-requests"] == "2"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    for line in fleet.lines:  # who is known to be refused is not listened to
        fleet.chat(key.secret, line=line)
        assert line.send(CHAT, ["no request"], headers=bearer(key.secret)).status == 429
    for answer in (first, refused):
        for what in ("requests", "tokens"):
            assert DURATION.fullmatch(answer.headers[f"x-ratelimit-reset-{what}"])
    assert "x-ratelimit-limit-requests" not in fleet.chat(fleet.key().secret).headers


def test_the_level_with_least_left_is_told_and_no_other_pays(fleet: Fleet) -> None:
    team = fleet.make("team", settings={"limits": {"requests_per_minute": 9}})
    key = fleet.make("key", team=team.id, settings={"limits": {"requests_per_minute": 2}})
    told = [fleet.chat(key.secret).headers["x-ratelimit-remaining-requests"] for _ in range(2)]
    assert told == ["1", "0"]
    for _ in range(5):
        assert fleet.chat(key.secret).status == 429
    assert (fleet.used(key, "requests"), fleet.used(team, "requests")) == (2, 2)
    other = fleet.make("key", team=team.id)
    assert fleet.chat(other.secret).headers["x-ratelimit-limit-requests"] == "9"


def test_a_changed_limit_holds_at_once(fleet: Fleet) -> None:
    key = fleet.key(limits={"requests_per_minute": 1})
    assert [fleet.chat(key.secret).status for _ in range(2)] == [200, 429]
    fleet.change(key, settings={"limits": {"requests_per_minute": 50}})
    until(lambda: set(fleet.statuses(key.secret)) == {200}, "more is allowed", 1.0)
    fleet.change(key, settings={"limits": {"requests_per_minute": 1}})
    until(lambda: set(fleet.statuses(key.secret)) == {429}, "less is allowed", 1.0)
    fleet.change(key, settings={"limits": None})
    until(lambda: set(fleet.statuses(key.secret)) == {200}, "nothing limits", 1.0)


def test_concurrent_requests_are_exact_and_slots_come_back(
    fleet: Fleet, sim: SimulatorProcess
) -> None:
    sim.behave("hang", "sim-medium")
    sim.behave("status=500", "sim-large")
    key = fleet.key(limits={"concurrent_requests": 4})
    held = [fleet.send(key.secret, "sim-medium") for _ in range(12)]
    until(lambda: sum(one.answered() for one in held) == 8, "eight are answered", 2.0)
    refused = [one for one in held if one.answered()]
    waiting = [one for one in held if one not in refused]
    assert {one.status() for one in refused} == {429}
    assert sim.stats()["in_flight"] == 4
    assert fleet.used(key, "concurrent") == 4
    assert set(fleet.statuses(key.secret)) == {429}
    error = assert_error(fleet.chat(key.secret), 429, "rate_limit_exceeded")
    assert "concurrent" in error["message"]
    waiting.pop().leave()

    def passes(status: int, **fields: Any) -> None:
        until(lambda: set(fleet.statuses(key.secret, **fields)) == {status}, "a slot is free", 1.0)

    passes(200)  # after a client that left
    passes(200, stream=True)
    passes(502, model="sim-large")
    sim.behave("cut=2", "sim-nano")
    passes(200, model="sim-nano", stream=True)  # ends with an error event
    passes(400, model="sim-small", messages=[])
    passes(200)
    assert fleet.used(key, "concurrent") in (3, 4)
    for one in (*waiting, *refused):
        one.leave()
    until(lambda: fleet.used(key, "concurrent") == 0, "all are free", 1.0)


def test_slots_hold_at_every_level(sqlite: Fleet, sim: SimulatorProcess) -> None:
    sim.behave("hang", "sim-medium")
    for level, secrets in levels(sqlite, concurrent_requests=1).items():
        held = sqlite.send(secrets[0], "sim-medium")
        until(lambda: bool(sim.stats()["in_flight"]), "it is under way", 1.0)
        assert sqlite.chat(secrets[-1]).status == 429, level
        held.leave()
        until(lambda last=secrets[-1]: sqlite.chat(last).status == 200, level, 1.0)  # type: ignore[misc]
        until(lambda: not sim.stats()["in_flight"], "it was given up", 1.0)


def test_tokens_settle_to_what_was_used(fleet: Fleet, sim: SimulatorProcess) -> None:
    key = fleet.key(limits={"tokens_per_minute": 100_000})

    def settled(tokens: float) -> None:
        until(lambda: fleet.used(key, "tokens") == tokens, f"{tokens} tokens are used", 1.0)

    sim.behave("tokens=70", "sim-small")
    answer = fleet.chat(key.secret, max_tokens=3000)
    real = answer.json()["usage"]["total_tokens"]
    assert 70 < real < 100
    settled(real)
    assert fleet.chat(key.secret, max_tokens=3000, stream=True).status == 200
    settled(2 * real)
    usage = {"include_usage": True}
    fleet.chat(key.secret, max_tokens=3000, stream=True, stream_options=usage)
    settled(3 * real)
    sim.behave("status=500", "sim-large")
    assert fleet.chat(key.secret, "sim-large", max_tokens=3000).status == 502
    assert fleet.chat(key.secret, "sim-nothing").status == 404
    settled(3 * real)


def test_the_estimate_stays_where_usage_is_not_known(fleet: Fleet, sim: SimulatorProcess) -> None:
    """Of who does not say it, and of a client that leaves in the middle; each is a key's only request."""
    silent, hasty = (fleet.key(limits={"tokens_per_minute": 100_000}) for _ in range(2))
    sim.behave("no_usage", "sim-small")
    assert fleet.chat(silent.secret, "sim-small", max_tokens=40).status == 200
    sim.behave("chunk_ms=200;chunks=50", "sim-medium")
    left = fleet.send(hasty.secret, "sim-medium", stream=True, max_tokens=40)
    assert left.status() == 200
    left.leave()
    until(lambda: not sim.stats()["in_flight"], "the provider is told", 1.0)
    time.sleep(0.3)  # for a settlement that would give it back
    for key in (silent, hasty):
        assert 0 < fleet.used(key, "tokens") <= 60


def test_tokens_a_minute_refuse(fleet: Fleet, sim: SimulatorProcess) -> None:
    sim.behave("tokens=100", "sim-small")
    key = fleet.key(limits={"tokens_per_minute": 1000})
    refused = fleet.chat(key.secret, text="word " * 2000)
    assert_error(refused, 429, "rate_limit_exceeded", says="too large")
    assert "retry-after" not in refused.headers
    used = []
    for _ in range(30):
        answer = fleet.chat(key.secret, max_tokens=100)
        if answer.status != 200:
            break
        used.append(answer.json()["usage"]["total_tokens"])
        until(lambda: fleet.used(key, "tokens") == sum(used), "it is settled", 1.0)
    error = assert_error(answer, 429, "rate_limit_exceeded", says="tokens per minute (TPM)")
    assert re.search(r"requested \d+", error["message"])
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert 1000 - 2 * used[0] < sum(used) <= 1000
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) == 1000 - sum(used)


def test_callers_see_their_own_limits(fleet: Fleet) -> None:
    team = fleet.make("team", settings={"limits": {"requests_per_minute": 100}})
    key = fleet.make("key", team=team.id, settings={"limits": {"concurrent_requests": 3}})
    assert fleet.chat(key.secret).status == 200
    own = fleet.read("/usage", key=key.secret)
    assert own["key"] == key.alias
    assert own["budgets"] == []
    found = {one["limits"]: one for one in own["limits"]}
    assert found["requests"]["level"] == "team"
    assert (found["requests"]["limit"], found["requests"]["used"]) == (100, 1)
    assert (found["requests"]["remaining"], found["requests"]["per"]) == (99, "minute")
    assert 0 < found["requests"]["reset_s"] <= 120
    assert found["concurrent"]["limit"] == 3
    shown = {one["limits"]: one["used"] for one in fleet.read(f"/limits?key={key.alias}")["data"]}
    assert shown["requests"] == 1
    assert [one["limits"] for one in fleet.read(f"/limits?team={team.id}")["data"]] == ["requests"]
    assert fleet.admin(f"/limits?key={key.id}", key=key.secret).status == 403
    assert fleet.admin("/limits").status == 400
    assert fleet.admin("/limits?key=nobody").status == 404


def test_redis_away(shared: Fleet) -> None:
    redis = shared.redis
    assert redis is not None
    n, workers = 3, len(shared.lines)
    limits = {"requests_per_minute": n, "concurrent_requests": n}
    open_ = shared.key(limits=limits)
    closed = shared.key(limits={**limits, "requests_per_minute": 1000, "fail": "closed"})
    free = shared.key()
    for key in (closed, free):
        assert set(shared.statuses(key.secret)) == {200}
    shared.chat(open_.secret)
    shared.statuses("sk-riq-warm")
    redis.stop()
    try:
        refused = [shared.chat(closed.secret, line=line) for line in shared.lines]
        for answer in refused:
            assert_error(answer, 503, "state_unavailable", says="cannot be checked")
            assert answer.headers["retry-after"] == "1"
        assert shared.statuses(free.secret) == [200] * workers
        for line in shared.lines:
            asked = [shared.chat(open_.secret, line=line).status for _ in range(n + 2)]
            assert asked == [200] * n + [429] * 2
        assert shared.admin("/usage", key=open_.secret).status == 503
        new = shared.make("key", settings={"limits": {"requests_per_minute": 5}})
        assert set(shared.statuses(new.secret)) == {200}, "the directory is not in Redis"
    finally:
        redis.start()
    until(lambda: set(shared.statuses(closed.secret)) == {200}, "limits are counted", 5.0)
    until(lambda: shared.used(open_, "concurrent") == 0, "slots are reported", 5.0)
    assert shared.used(open_, "requests") <= n


def test_the_slots_of_a_killed_worker_come_back_and_those_of_others_stay(
    bereaved: Bereaved,
) -> None:
    fleet, lost, kept = bereaved.fleet, bereaved.lost, bereaved.kept
    if time.monotonic() - bereaved.killed < SLOTS_TTL_S / 2:
        assert fleet.used(lost, "concurrent") == 2, "nobody else gives them back"
    left = max(SLOTS_TTL_S - (time.monotonic() - bereaved.killed), 1.0)
    until(lambda: set(fleet.statuses(lost.secret)) == {200}, "the slots are free", left + 2.0)
    until(lambda: time.monotonic() > bereaved.killed + SLOTS_TTL_S + 1.0, "time passes", left + 2.0)
    assert set(fleet.statuses(kept.secret)) == {429}
    bereaved.waiting.leave()
    until(lambda: set(fleet.statuses(kept.secret)) == {200}, "its slot is free", 1.0)
