"""The public checks fail on stores that break their promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from routeiq.state.memory import (
    MemoryBoard,
    MemoryConversations,
    MemoryCounters,
    MemoryDocuments,
    MemoryEvents,
    MemoryLeases,
    MemoryLimits,
)
from routeiq.state.memory.audit import MemoryAudit
from routeiq.store_checks import LEDGERS, SHARED, Connected, StoreName, Stores, store_checks
from routeiq.stores import Ask, Change, Delta, Document, Lease, OnEvent, Reservation
from routeiq.types import JsonObject
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


class TakesSome(MemoryLimits):
    """Asks one after the other."""

    async def reserve(self, tenant: str, worker: str, asks: Sequence[Ask]) -> Reservation:
        answers = [await super(TakesSome, self).reserve(tenant, worker, [ask]) for ask in asks]
        refused = [index for index, one in enumerate(answers) if one.refused is not None]
        return Reservation(
            grants=tuple(one.grants[0] for one in answers),
            refused=refused[0] if refused else None,
            retry_after_s=max((one.retry_after_s for one in answers), default=0.0),
        )


class SettlesTwice(MemoryLimits):
    """Does not look at `seq`."""

    async def adjust(self, tenant: str, worker: str, seq: int, deltas: Sequence[Delta]) -> None:
        self._seqs.clear()
        await super().adjust(tenant, worker, seq, deltas)


class NeverFrees(MemoryLimits):
    """Slots of the dead stay taken."""

    async def keep_slots(self, tenant: str, worker: str, ttl_s: float = 30.0) -> None:
        await super().keep_slots(tenant, worker, 1e9)


class CountsTwice(MemoryCounters):
    """Does not look at `seq`."""

    async def apply(self, name: str, worker: str, seq: int, deltas: Mapping[str, int]) -> None:
        self._seqs.clear()
        await super().apply(name, worker, seq, deltas)


class EverybodyProbes(MemoryBoard):
    """Claims always succeed."""

    async def claim_probe(self, id: str, worker: str, ttl_s: float) -> bool:
        return True


class NeverForgets(MemoryConversations):
    """Conversations stay."""

    async def put(self, entries: Mapping[str, str], ttl_s: float) -> None:
        await super().put(entries, 1e9)


class SameToken(MemoryLeases):
    """A new holder cannot be told from the old one."""

    async def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        lease = await super().acquire(name, holder, ttl_s)
        return lease and Lease(name=name, holder=holder, token=1, left_s=ttl_s)


class Overwrites(MemoryDocuments):
    """Does not look at `expected`."""

    async def write(
        self, name: str, body: JsonObject | None, change: Change, *, expected: int | None = None
    ) -> Document:
        return await super().write(name, body, change)


class Twice(MemoryEvents):
    """Everything comes two times."""

    async def publish(self, topic: str, payload: JsonObject) -> None:
        await super().publish(topic, payload)
        await super().publish(topic, payload)


class GivesUp(MemoryEvents):
    """Listening ends by itself."""

    async def listen(self, on_event: OnEvent, on_gap: Callable[[], Awaitable[None]]) -> None:
        await on_gap()


def broken() -> list[tuple[StoreName, Callable[[FakeClock], object]]]:
    return [
        ("limits", TakesSome),
        ("limits", SettlesTwice),
        ("limits", NeverFrees),
        ("counters", lambda _: CountsTwice()),
        ("board", EverybodyProbes),
        ("conversations", NeverForgets),
        ("leases", SameToken),
        ("documents", lambda clock: Overwrites(clock, MemoryAudit(clock))),
        ("events", lambda _: Twice()),
        ("events", lambda _: GivesUp()),
    ]


@pytest.mark.parametrize(("name", "make"), broken())
async def test_a_store_that_breaks_a_promise_is_caught(
    name: StoreName, make: Callable[[FakeClock], object]
) -> None:
    @asynccontextmanager
    async def factory() -> AsyncIterator[Connected]:
        clock = FakeClock()
        stores = Stores(**{name: make(clock)})  # type: ignore[arg-type]

        async def sleep(seconds: float) -> None:
            clock.advance(seconds)

        yield Connected(first=stores, second=stores, sleep=sleep)

    caught = 0
    for check in store_checks(name):
        try:
            await check(factory)
        except AssertionError:
            caught += 1
    assert caught


def test_checks_can_be_chosen() -> None:
    everything = store_checks()
    assert len(everything) == len(set(everything)) > 50
    assert {*store_checks(*LEDGERS), *store_checks(*SHARED)} == set(everything)
    assert set(store_checks("leases")) < set(store_checks(*SHARED))
