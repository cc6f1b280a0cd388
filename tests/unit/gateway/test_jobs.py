from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.gateway import jobs as module
from routeiq.gateway.jobs import MARGIN, Jobs
from routeiq.stores import Lease
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
LEASE_S, EVERY_S = 30.0, 60.0


class Time:
    """Sleeping by the fake clock: `advance` wakes whoever is due, in order."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.count = 0

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.count += 1
        heapq.heappush(self.sleepers, (self.clock.now + seconds, self.count, future))
        await future

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        end = self.clock.now + seconds
        await self.settle()
        while self.sleepers and self.sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self.sleepers)
            if not future.done():
                self.clock.now = max(at, self.clock.now)
                future.set_result(None)
                await self.settle()
        self.clock.now = end
        await self.settle()

    async def jump(self, seconds: float) -> None:
        """The process stood still, as one that was suspended: all of it is late at once."""
        self.clock.advance(seconds)
        await self.advance(0.0)


class Store:
    """Leases by a clock of its own; `cut` are the workers that cannot reach it, `hung` get no answer."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.held: dict[str, tuple[str, int, float]] = {}
        self.cut: set[str] = set()
        self.hung: set[str] = set()
        self.asked: list[tuple[float, str]] = []

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        self.asked.append((self.clock.now, holder))
        await self.reach(holder)
        owner, token, until = self.held.get(name, ("", 0, 0.0))
        if until > self.clock.now:
            if owner != holder:
                return None
        else:
            token += 1
        self.held[name] = (holder, token, self.clock.now + ttl_s)
        return Lease(name=name, holder=holder, token=token, left_s=ttl_s)

    async def release(self, name: str, holder: str) -> None:
        await self.reach(holder)
        owner, token, _ = self.held.get(name, ("", 0, 0.0))
        if owner == holder:
            self.held[name] = ("", token, 0.0)

    async def read(self, name: str) -> Lease | None:
        owner, token, until = self.held.get(name, ("", 0, 0.0))
        left_s = until - self.clock.now
        return Lease(name=name, holder=owner, token=token, left_s=left_s) if left_s > 0 else None

    async def reach(self, holder: str) -> None:
        if holder in self.hung:
            await asyncio.Event().wait()
        if holder in self.cut:
            raise StoreUnavailable("no route")


class Worker:
    """One worker; notes when its job began and ended, and under which token."""

    def __init__(self, name: str, time: Time, store: Store, *, takes_s: float = 0.0) -> None:
        self.name, self.time, self.store, self.takes_s = name, time, store, takes_s
        self.began: list[tuple[float, int]] = []
        self.ended: list[float] = []
        self.fails = False
        self.jobs = Jobs(
            leases=store, clock=time.clock, worker=name, lease_s=LEASE_S, sleep=time.sleep
        )
        self.jobs.add("job", self.work, EVERY_S)
        self.task = asyncio.create_task(self.jobs.run())

    async def work(self, lease: Lease) -> None:
        self.began.append((self.time.clock.now, lease.token))
        try:
            if self.fails:
                raise ValueError("the job's own trouble")
            if self.takes_s:
                await self.time.sleep(self.takes_s)
        finally:
            self.ended.append(self.time.clock.now)

    @property
    def leads(self) -> bool:
        return self.jobs.is_leader("job")

    async def kill(self) -> None:
        """As `kill -9`: nothing is given back."""
        self.store.cut.add(self.name)
        await self.stop()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def time(clock: FakeClock) -> Time:
    return Time(clock)


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


@asynccontextmanager
async def running(
    time: Time, store: Store, size: int, *, takes_s: float = 0.0
) -> AsyncIterator[list[Worker]]:
    workers = [Worker(f"w{n}", time, store, takes_s=takes_s) for n in range(size)]
    await time.settle()
    yield workers
    for worker in workers:
        await worker.stop()


async def test_one_of_three_does_it_again_and_again(time: Time, store: Store) -> None:
    async with running(time, store, 3) as workers:
        await time.advance(10 * EVERY_S)
        (leader,) = [one for one in workers if one.leads]
        assert len(leader.began) == 11
        assert {token for _, token in leader.began} == {1}
        others = [one for one in workers if one is not leader]
        assert all(one.began == [] and one.jobs.skipped("job") >= 59 for one in others)
        status = leader.jobs.status()["job"]
        assert (status["runs"], status["skipped"], status["lost"]) == (11, 0, 0)
        assert status["lease_left_s"] > LEASE_S / 2


async def test_a_lease_is_renewed_three_times_in_its_time(time: Time, store: Store) -> None:
    async with running(time, store, 1):
        await time.advance(60.0)
        assert [at - store.asked[0][0] for at, _ in store.asked] == [0, 10, 20, 30, 40, 50, 60]


async def test_another_takes_over_within_the_lease_time_of_the_killed(
    time: Time, store: Store
) -> None:
    workers = []
    for name in ("w0", "w1", "w2"):  # so that nobody asks at the time at which the lease ends
        workers.append(Worker(name, time, store))
        await time.advance(3.0)
    await time.advance(82.0)  # the last renewal was a second ago
    assert workers[0].leads
    killed_at = time.clock.now
    await workers[0].kill()
    await time.advance(LEASE_S)
    (heir,) = [one for one in workers if one.leads]
    at, token = heir.began[0]
    assert at - killed_at <= LEASE_S
    assert token == 2
    for one in workers:
        await one.stop()


async def test_the_lease_is_given_back_when_the_work_has_ended(time: Time, store: Store) -> None:
    jobs = Jobs(leases=store, clock=time.clock, worker="w", lease_s=LEASE_S, sleep=time.sleep)
    held: list[Lease | None] = []

    async def work(lease: Lease) -> None:
        try:
            await time.sleep(1e6)
        finally:
            await time.sleep(2.0)  # tidies up
            held.append(await store.read("job"))

    jobs.add("job", work, EVERY_S)
    task = asyncio.create_task(jobs.run())
    await time.advance(1.0)
    task.cancel()
    await time.advance(3.0)
    await asyncio.gather(task, return_exceptions=True)
    assert [one is not None and one.holder for one in held] == ["w"]
    assert await store.read("job") is None


async def test_one_that_ends_in_order_is_followed_soon(time: Time, store: Store) -> None:
    async with running(time, store, 2) as workers:
        await time.advance(5.0)
        await workers[0].stop()
        await time.advance(LEASE_S / 3)
        assert workers[1].leads


async def test_a_job_that_takes_longer_than_a_lease_goes_on(time: Time, store: Store) -> None:
    async with running(time, store, 2, takes_s=5 * LEASE_S) as workers:
        await time.advance(20 * LEASE_S)
        leader, other = workers
        assert other.began == []
        assert len(leader.began) == 5  # one after the other: each is overdue at once
        starts = [at for at, _ in leader.began]
        assert starts[1:] == leader.ended[:4]


async def test_who_cannot_renew_stops_before_another_starts(time: Time, store: Store) -> None:
    async with running(time, store, 2, takes_s=1e6) as workers:
        await time.advance(45.0)
        store.cut.add("w0")
        await time.advance(2 * LEASE_S)
        (stopped_at,) = workers[0].ended
        (began_at, token) = workers[1].began[0]
        assert stopped_at <= began_at - 0.99 * MARGIN * LEASE_S
        assert token == 2
        assert not workers[0].leads
        store.cut.clear()
        await time.advance(LEASE_S)
        assert not workers[0].leads
        assert workers[0].jobs.status()["job"]["lost"] == 1


async def test_a_short_outage_costs_nobody_the_lease(time: Time, store: Store) -> None:
    async with running(time, store, 2, takes_s=1e6) as workers:
        await time.advance(9.0)
        store.cut = {"w0", "w1"}
        await time.advance(15.0)
        store.cut.clear()
        await time.advance(5 * LEASE_S)
        assert workers[0].leads
        assert workers[0].ended == []
        assert workers[1].began == []


async def test_work_stops_in_time_though_the_store_hangs(clock: FakeClock) -> None:
    """On the real clock, since the time-out of the renewal is the event loop's."""
    store = Store(clock)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)
        clock.advance(seconds)

    ended = asyncio.Event()

    async def work(lease: Lease) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    jobs = Jobs(leases=store, clock=clock, worker="w", lease_s=0.3, sleep=sleep)
    jobs.add("job", work, EVERY_S)
    task = asyncio.create_task(jobs.run())
    while not jobs.is_leader("job"):
        await asyncio.sleep(0)
    store.hung.add("w")

    async def pass_time() -> None:
        while not ended.is_set():
            await asyncio.sleep(0.01)
            clock.advance(0.01)

    await asyncio.wait_for(pass_time(), 10)
    store.hung.clear()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_worker_that_stood_still_works_no_longer(time: Time, store: Store) -> None:
    async with running(time, store, 1, takes_s=1e6) as workers:
        await time.advance(5.0)
        store.held["job"] = ("somebody", 2, time.clock.now + 100.0)
        await time.jump(80.0)
        assert len(workers[0].ended) == 1
        assert not workers[0].leads
        await time.advance(31.0)
        assert [token for _, token in workers[0].began] == [1, 3]


async def test_a_new_token_is_a_new_start(time: Time, store: Store) -> None:
    async with running(time, store, 1, takes_s=1e6) as workers:
        store.held["job"] = ("", 1, 0.0)  # the store forgot; somebody may have had it between
        await time.advance(LEASE_S)
        assert [token for _, token in workers[0].began] == [1, 2]
        assert len(workers[0].ended) == 1


async def test_the_wall_clock_may_jump(time: Time, store: Store) -> None:
    async with running(time, store, 2) as workers:
        for offset in (-1e6, 1e6, 0.0):
            time.clock.wall_offset += offset
            await time.advance(2 * LEASE_S)
        assert workers[0].leads
        assert workers[1].began == []


async def test_a_job_that_fails_is_counted_and_tried_again(
    time: Time, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(time, store, 1) as workers:
        workers[0].fails = True
        await time.advance(EVERY_S)
        workers[0].fails = False
        status = workers[0].jobs.status()["job"]
        assert (status["runs"], status["failures"]) == (1, 1)
        assert status["last_error"] == "ValueError: the job's own trouble"
        assert workers[0].leads
        assert "job failed" in caplog.text
        await time.advance(EVERY_S)
        assert workers[0].jobs.status()["job"]["last_error"] is None


async def test_what_a_job_waited_for_may_be_cancelled(time: Time, store: Store) -> None:
    jobs = Jobs(leases=store, clock=time.clock, worker="w", lease_s=LEASE_S, sleep=time.sleep)

    async def work(lease: Lease) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    jobs.add("job", work, EVERY_S)
    task = asyncio.create_task(jobs.run())
    await time.advance(3 * EVERY_S)
    assert jobs.status()["job"]["failures"] == 4
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_without_the_store_nobody_works(time: Time, store: Store) -> None:
    store.cut = {"w0", "w1"}
    async with running(time, store, 2) as workers:
        await time.advance(100.0)
        assert not any(one.leads or one.began for one in workers)
        store.cut.clear()
        await time.advance(1.1)
        assert sum(one.leads for one in workers) == 1


async def test_jobs_have_leases_of_their_own(time: Time, store: Store) -> None:
    jobs = Jobs(leases=store, clock=time.clock, worker="w", lease_s=LEASE_S, sleep=time.sleep)
    store.held["one"] = ("somebody", 4, time.clock.now + 1e6)
    done: list[str] = []

    async def work(lease: Lease) -> None:
        done.append(lease.name)

    for name in ("one", "two"):
        jobs.add(name, work, EVERY_S)
    with pytest.raises(ValueError, match="there is a job 'two' already"):
        jobs.add("two", work, EVERY_S)
    task = asyncio.create_task(jobs.run())
    await time.advance(1.0)
    assert done == ["two"]
    assert jobs.is_leader("two")
    assert not jobs.is_leader("one")
    assert not jobs.is_leader("three")
    assert jobs.skipped("three") == 0
    held = await jobs.holder("one")
    assert held is not None
    assert held.holder == "somebody"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await jobs.holder("two") is None
    assert await jobs.holder("one") is not None


async def test_the_end_does_not_wait_for_a_store_that_hangs(
    time: Time, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELEASE_S", 0.01)
    async with running(time, store, 1):
        await time.advance(1.0)
        store.hung.add("w0")
