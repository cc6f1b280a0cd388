"""`Leases`: one holder at a time; a dead one is followed; tokens grow."""

from __future__ import annotations

import asyncio

from routeiq.stores import Lease

from .connections import StoreCheck, StoreFactory, require, same


async def check_leases_have_one_holder(open: StoreFactory) -> None:
    """Of many that try at once one gets it; it may renew, others may not; leases are apart."""
    async with open() as pair:
        both = (pair.first.leases, pair.second.leases)
        same(await both[0].read("job"), None, "a lease that nobody took")
        tried = await asyncio.gather(
            *(both[task % 2].acquire("job", f"h{task}", 60.0) for task in range(50))
        )
        held = [lease for lease in tried if lease is not None]
        same(len(held), 1, "holders of fifty that tried")
        winner, loser = held[0].holder, "nobody"
        renewed = await both[1].acquire("job", winner, 60.0)
        same(renewed is not None and renewed.token, held[0].token, "the token after a renewal")
        same(await both[0].acquire("job", loser, 60.0), None, "a lease that is held")
        await both[0].release("job", loser)
        read = await both[1].read("job")
        same(read and (read.name, read.holder), ("job", winner), "who has it")
        require(read is not None and 50.0 < read.left_s <= 60.0, f"left of 60 s: {read}")
        other = await both[0].acquire("größe {x}:\U0001f600", loser, 60.0)
        require(other is not None, "another lease is free")


async def check_leases_are_taken_over(open: StoreFactory) -> None:
    """After the time of the holder another gets it, with a greater token; the old one is out."""
    async with open() as pair:
        a, b = pair.first.leases, pair.second.leases
        tokens = []
        for number in range(3):
            leases, holder = (a, b)[number % 2], f"h{number % 2}"
            lease = await leases.acquire("job", holder, 0.3)
            tokens.append(_held(lease, holder).token)
            await pair.sleep(0.45)
            same(await leases.read("job"), None, "a lease whose time is over")
        same(sorted(set(tokens)), tokens, "tokens of new holders must grow")
        _held(await a.acquire("job", "new", 60.0), "new")
        same(await b.acquire("job", "h1", 60.0), None, "a late old holder")


async def check_leases_are_released(open: StoreFactory) -> None:
    """A released one is free at once; the token grows all the same."""
    async with open() as pair:
        a, b = pair.first.leases, pair.second.leases
        first = _held(await a.acquire("job", "h1", 60.0), "h1")
        await a.release("job", "h1")
        await a.release("unknown", "h1")
        same(await b.read("job"), None, "a lease that was released")
        second = _held(await b.acquire("job", "h2", 60.0), "h2")
        require(second.token > first.token, f"token {second.token} after {first.token}")
        await a.release("job", "h1")
        same(_held(await a.read("job"), "h2").token, second.token, "after a late release")


async def check_leases_are_renewed_in_time(open: StoreFactory) -> None:
    """Who renews keeps it beyond the first time."""
    async with open() as pair:
        first = _held(await pair.first.leases.acquire("job", "h", 0.4), "h")
        second = _held(await pair.first.leases.acquire("job", "h", 60.0), "h")
        await pair.sleep(0.6)
        same(await pair.second.leases.acquire("job", "other", 60.0), None, "a renewed lease")
        require(second.token >= first.token, "tokens never fall")


def _held(lease: Lease | None, holder: str) -> Lease:
    if lease is None:
        raise AssertionError(f"{holder} must have the lease")
    same(lease.holder, holder, "the holder")
    return lease


CHECKS: tuple[StoreCheck, ...] = (
    check_leases_have_one_holder,
    check_leases_are_taken_over,
    check_leases_are_released,
    check_leases_are_renewed_in_time,
)
