"""Workers with breakers, clocks and connections of their own around one board."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.resilience import fleet
from routeiq.resilience.breaker import Breakers
from routeiq.resilience.fleet import FleetBreakers
from routeiq.stores import Notice
from routeiq.types import JsonObject
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
OPEN_S, REREAD_S = 30.0, 5.0


class Hub:
    """The board's server: notices, probes, and a doorbell that rings at once."""

    def __init__(self) -> None:
        self.clock = FakeClock(monotonic=5.0)
        self.notices: dict[str, tuple[Notice, float]] = {}
        self.probes: dict[str, tuple[str, float]] = {}
        self.members: list[Member] = []

    async def ring(self, id: str, state: str, left_s: float, worker: str) -> None:
        payload: JsonObject = {"id": id, "state": state, "left_s": left_s, "worker": worker}
        for member in self.members:
            if member.hears:
                await member.fleet.on_event(payload)


class Member:
    """One worker; it is its own connection to the hub, which may be cut."""

    def __init__(self, hub: Hub, name: str, offset: float) -> None:
        self.hub, self.name = hub, name
        self.connected = self.hears = True
        self.hangs = False
        self.clock = FakeClock(monotonic=offset, wall=1e9 + offset * 1e5)
        self.breakers = Breakers(
            failure_threshold=2, open_s=OPEN_S, window_s=60.0, clock=self.clock
        )
        self.fleet = FleetBreakers(
            breakers=self.breakers,
            board=self,
            clock=self.clock,
            worker=name,
            open_s=OPEN_S,
            reread_s=REREAD_S,
        )

    async def _reach(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if not self.connected:
            raise StoreUnavailable("the board is unavailable")

    async def open(self, notice: Notice) -> None:
        await self._reach()
        self.hub.notices[notice.id] = (notice, self.hub.clock.monotonic() + notice.left_s)
        self.hub.probes.pop(notice.id, None)
        await self.hub.ring(notice.id, "open", notice.left_s, notice.worker)

    async def close(self, id: str, worker: str) -> None:
        await self._reach()
        self.hub.notices.pop(id, None)
        self.hub.probes.pop(id, None)
        await self.hub.ring(id, "closed", 0.0, worker)

    async def all(self) -> Sequence[Notice]:
        await self._reach()
        now = self.hub.clock.monotonic()
        return [
            Notice(id=id, left_s=max(until - now, 0.0), worker=notice.worker)
            for id, (notice, until) in self.hub.notices.items()
        ]

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        await self._reach()
        now = self.hub.clock.monotonic()
        _, until = self.hub.probes.get(id, ("", now))
        if until > now:
            return False
        self.hub.probes[id] = (worker, now + ttl_s)
        return True

    def fail(self, id: str = "a") -> None:
        self.breakers.failure(id)
        self.breakers.failure(id)


class Fleet:
    """All members, whose time passes together although their clocks show different times."""

    def __init__(self, size: int) -> None:
        self.hub = Hub()
        self.members: list[Member] = []
        for number in range(size):
            self.add(100.0 * number**3 + 7.0)

    def add(self, offset: float) -> Member:
        member = Member(self.hub, f"w{len(self.members)}", offset)
        self.members.append(member)
        self.hub.members.append(member)
        return member

    async def step(self) -> None:
        for _ in range(2):
            for member in self.members:
                await member.fleet.step()

    async def advance(self, seconds: float) -> None:
        """Let time pass as workers' background tasks see it."""
        for clock in [self.hub.clock, *(member.clock for member in self.members)]:
            clock.advance(seconds)
        await self.step()

    def allowing(self, id: str = "a") -> list[str]:
        return [member.name for member in self.members if member.breakers.allows(id)]

    def probers(self, id: str = "a") -> list[Member]:
        """Whoever gets a request through, all of them trying twice."""
        return [member for member in self.members for _ in range(2) if member.breakers.acquire(id)]


@pytest.fixture
async def four() -> Fleet:
    fleet = Fleet(4)
    for member in fleet.members:
        await member.fleet.load()
    return fleet


async def opened(fleet: Fleet) -> Fleet:
    fleet.members[0].fail()
    await fleet.step()
    return fleet


async def test_what_one_sees_protects_all(four: Fleet) -> None:
    assert four.allowing() == ["w0", "w1", "w2", "w3"]
    await opened(four)
    assert four.allowing() == []
    assert four.allowing("b") == ["w0", "w1", "w2", "w3"]
    assert [one.breakers.retry_after_s("a") for one in four.members] == pytest.approx([OPEN_S] * 4)
    assert [one.fleet.opened for one in four.members] == [1, 0, 0, 0]
    assert [one.fleet.heard for one in four.members] == [0, 1, 1, 1]


async def test_no_request_waits_for_the_board(four: Fleet) -> None:
    for one in four.members:
        one.hangs = True
    four.members[0].fail()
    assert not four.members[0].breakers.acquire("a")
    assert four.members[1].breakers.acquire("a")


async def test_one_probe_in_the_fleet_and_its_success_closes_all(four: Fleet) -> None:
    await opened(four)
    assert four.allowing() == []  # everybody has requests for it
    await four.advance(OPEN_S - 0.1)
    assert four.probers() == []
    await four.advance(0.2)
    (prober,) = four.probers()
    await four.advance(1.0)
    assert four.probers() == []
    prober.breakers.success("a")
    await four.step()
    assert four.allowing() == ["w0", "w1", "w2", "w3"]
    assert four.hub.notices == {}
    assert sum(one.fleet.claims_won for one in four.members) == 1
    assert sum(one.fleet.claims_lost for one in four.members) == 3


async def test_a_probe_that_fails_is_another_pause_for_all(four: Fleet) -> None:
    await opened(four)
    four.allowing()
    await four.advance(OPEN_S)
    (prober,) = four.probers()
    await four.advance(10.0)
    prober.breakers.failure("a")
    await four.step()
    await four.advance(OPEN_S - 0.1)
    assert four.probers() == []
    await four.advance(0.2)
    assert len(four.probers()) == 1


async def test_only_workers_with_requests_claim(four: Fleet) -> None:
    await opened(four)
    await four.advance(OPEN_S)
    assert [one.fleet.claims_won for one in four.members] == [1, 0, 0, 0]
    assert sum(one.fleet.claims_lost for one in four.members) == 0


async def test_a_request_after_the_pause_asks_for_leave_at_once(four: Fleet) -> None:
    await opened(four)
    four.members[0].connected = False  # the one that opened it, and would have asked, is gone
    four.members.pop(0)
    await four.advance(OPEN_S)
    assert not four.members[1].breakers.acquire("a")
    await four.step()
    assert [one.name for one in four.probers()] == ["w2"]


async def test_another_probes_when_the_prober_dies(four: Fleet) -> None:
    await opened(four)
    four.allowing()
    await four.advance(OPEN_S)
    (prober,) = four.probers()
    four.members.remove(prober)
    four.hub.members.remove(prober)
    await four.advance(OPEN_S - 0.1)
    assert four.probers() == []
    await four.advance(0.2)
    assert len(four.probers()) == 1


async def test_a_probe_that_never_reports_gives_way(four: Fleet) -> None:
    await opened(four)
    four.allowing()
    await four.advance(OPEN_S)
    assert len(four.probers()) == 1
    four.probers()
    await four.advance(OPEN_S + 0.1)
    assert len(four.probers()) == 1


async def test_a_worker_that_is_cut_off_goes_on_alone(four: Fleet) -> None:
    lost = four.members[3]
    lost.connected = lost.hears = False
    await opened(four)
    assert four.allowing() == ["w3"]
    lost.fail()
    await four.step()
    assert four.allowing() == []
    assert lost.fleet.status()["in_step"] is False
    await four.advance(OPEN_S)
    assert sorted(one.name for one in four.probers()) == ["w0", "w3"]
    assert lost.fleet.alone == 1
    lost.breakers.success("a")
    assert lost.breakers.allows("a")


async def test_a_worker_that_is_back_catches_up(four: Fleet) -> None:
    lost = four.members[3]
    lost.connected = lost.hears = False
    await lost.fleet.reread()
    await opened(four)
    lost.fail("b")
    await four.advance(2.0)
    lost.connected = lost.hears = True
    await four.advance(1.0)
    assert four.allowing("a") == []
    assert four.allowing("b") == []
    assert four.members[0].breakers.retry_after_s("b") == pytest.approx(OPEN_S - 3.0)
    assert all(one.fleet.status()["in_step"] for one in four.members)


async def test_events_that_were_missed_are_made_up_for(four: Fleet) -> None:
    deaf = four.members[2]
    deaf.hears = False
    await opened(four)
    assert four.allowing() == ["w2"]
    await four.advance(REREAD_S)
    assert four.allowing() == []
    await four.advance(OPEN_S)
    (prober,) = four.probers()
    prober.breakers.success("a")
    await four.step()
    await deaf.fleet.reread()  # the gap is over
    assert four.allowing() == ["w0", "w1", "w2", "w3"]


async def test_a_new_worker_knows_before_its_first_request(four: Fleet) -> None:
    await opened(four)
    await four.advance(20.0)
    new = four.add(1e6)
    await new.fleet.load()
    assert not new.breakers.acquire("a")
    assert new.breakers.retry_after_s("a") == pytest.approx(10.0)
    await four.advance(15.0)
    late = four.add(3.0)
    await late.fleet.load()
    assert not late.breakers.acquire("a")  # its probe is under way, or about to be


async def test_a_board_that_hangs_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "ANSWER_S", 0.01)
    one = Fleet(1).members[0]
    one.hangs = True
    await one.fleet.load()
    one.fail()
    one.clock.advance(OPEN_S)
    await one.fleet.step()
    assert one.breakers.acquire("a")
    one.breakers.success("a")
    assert one.breakers.allows("a")


async def test_news_that_came_during_the_reading_are_younger(four: Fleet) -> None:
    await opened(four)
    member = four.members[1]
    answer = await member.all()

    async def stale() -> Sequence[Notice]:
        await four.members[0].close("a", "w0")
        return answer

    member.all = stale  # type: ignore[method-assign]
    await member.fleet.reread()
    assert member.breakers.allows("a")


async def test_a_verdict_that_waits_is_younger_than_the_board(four: Fleet) -> None:
    await opened(four)
    await four.advance(OPEN_S)
    (prober,) = four.probers()
    prober.breakers.success("a")
    await prober.fleet.reread()
    assert prober.breakers.allows("a")


async def test_a_verdict_makes_news_that_wait_old(four: Fleet) -> None:
    member = four.members[0]
    member.connected = False
    member.fail()
    await member.fleet.step()
    await four.members[1].close("a", "w1")
    assert member.breakers.allows("a")
    member.connected = True
    await four.advance(1.0)
    assert four.hub.notices == {}
    assert four.allowing() == ["w0", "w1", "w2", "w3"]


async def test_a_board_that_lost_its_notices_closes_nothing(four: Fleet) -> None:
    await opened(four)
    for one in four.members:
        one.connected = False
        await one.fleet.reread()
        one.connected = True
    four.hub.notices.clear()
    await four.advance(REREAD_S)
    assert four.allowing() == []


async def test_strange_events_change_nothing(four: Fleet) -> None:
    member = four.members[0]
    strange: list[JsonObject] = [
        {},
        {"id": 7, "state": "open", "left_s": 3},
        {"id": "a", "state": "open", "left_s": "3"},
        {"id": "a", "state": "ajar", "left_s": 3},
        {"id": "a", "state": "open", "left_s": 3, "worker": "w0"},
    ]
    for payload in strange:
        await member.fleet.on_event(payload)
    assert member.breakers.snapshot() == {}


async def test_overrides_are_not_published(four: Fleet) -> None:
    member = four.members[0]
    await opened(four)
    member.breakers.override({"a": "drain", "b": "drain"})
    member.breakers.override({})
    member.breakers.override({"a": "closed"})
    member.breakers.override({})
    await four.step()
    assert set(four.hub.notices) == {"a"}
    assert member.fleet.opened == 1


async def test_run_wakes_for_news(four: Fleet) -> None:
    running = [asyncio.create_task(one.fleet.run()) for one in four.members]
    await asyncio.sleep(0)
    four.members[0].fail()
    async with asyncio.timeout(5):
        while four.allowing():
            await asyncio.sleep(0.001)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
