"""`Limits`, sliding windows: what the last one still counts, and giving back.

Windows of one second: where the store's clock cannot be moved, a check may be late by any time. So each tells
from the number of the window and from `reset_s` where it is, and begins again if it missed the window.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil

from routeiq.stores import Ask, Delta, Grant

from .connections import Connected, StoreCheck, StoreFactory, require, same

WINDOW_S = 1.0
TRIES = 8
LIMIT = 40


def _ask(bucket: str, amount: int, limit: int = LIMIT) -> Ask:
    return Ask(bucket=bucket, kind="window", limit=limit, amount=amount, window_s=WINDOW_S)


def _back(bucket: str, amount: int, grant: Grant) -> Delta:
    return Delta(
        bucket=bucket, kind="window", amount=amount, window=grant.window, window_s=WINDOW_S
    )


async def _take(pair: Connected, bucket: str, amount: int, limit: int = LIMIT) -> Grant:
    answer = await pair.first.limits.reserve("t", "w", [_ask(bucket, amount, limit)])
    return answer.grants[0]


async def _next_window(pair: Connected, grant: Grant) -> None:
    """Sleep until just after the window of this grant, which took something in it."""
    await pair.sleep(grant.reset_s - WINDOW_S + 0.02)


async def _until_in_time(
    open: StoreFactory, attempt: Callable[[Connected, str], Awaitable[bool]]
) -> None:
    async with open() as pair:
        for number in range(TRIES):
            if await attempt(pair, f"bucket-{number}"):
                return
    raise AssertionError(f"never within one window of {WINDOW_S} s in {TRIES} attempts")


async def check_windows_slide(open: StoreFactory) -> None:
    """The last window counts with the share that lies in the past `window_s`, rounded up."""

    async def attempt(pair: Connected, bucket: str) -> bool:
        grant = await _take(pair, bucket, LIMIT)
        require(WINDOW_S <= grant.reset_s <= 2 * WINDOW_S, f"empty in one to two: {grant.reset_s}")
        await _next_window(pair, grant)
        seen = await _take(pair, bucket, LIMIT)  # refused: nothing is taken
        if seen.window != grant.window + 1:
            return False
        counted = ceil(LIMIT * seen.reset_s / WINDOW_S)
        require(seen.taken == 0, "the window before must still count")
        require(
            abs(seen.used - counted) <= 1,
            f"{LIMIT} taken before, {seen.reset_s} s of it left: {seen.used} counted",
        )
        return True

    await _until_in_time(open, attempt)


async def check_windows_say_when_to_come_back(open: StoreFactory) -> None:
    """Who waits for `retry_after_s` is let in, if nobody else came: in this window or a later one."""
    async with open() as pair:
        first = await _take(pair, "w", LIMIT)
        await _come_back(pair, _ask("w", 10))
        await _come_back(pair, _ask("w", LIMIT))
        second = await _take(pair, "v", LIMIT)
        await _next_window(pair, second)
        await _come_back(pair, _ask("v", 10))
        never = await pair.first.limits.reserve("t", "w", [_ask("w", LIMIT + 1)])
        same(never.refused, 0, "more than the limit at once")
        require(never.retry_after_s > 0, "a refusal must say when to try again")
        same((first.taken, second.taken), (LIMIT, LIMIT), "what empty windows gave")


async def _come_back(pair: Connected, ask: Ask) -> None:
    refused = await pair.first.limits.reserve("t", "w", [ask])
    if refused.refused is None:  # so late that there was room again
        return
    wait = refused.retry_after_s
    require(0 < wait <= 2 * WINDOW_S + 0.1, f"told to wait {wait} s")
    await pair.sleep(wait + 0.005)
    again = await pair.second.limits.reserve("t", "w", [ask])
    same(again.refused, None, f"the index of what was refused after the {wait} s that were said")


async def check_windows_empty(open: StoreFactory) -> None:
    """After `reset_s` nothing counts."""
    async with open() as pair:
        grant = await _take(pair, "w", LIMIT)
        await pair.sleep(grant.reset_s + 0.02)
        same(dict(await pair.second.limits.usage("t", {"w": "window"})), {"w": 0}, "usage")
        same((await _take(pair, "w", LIMIT)).taken, LIMIT, "the whole limit again")


async def check_windows_take_back_what_was_taken_now(open: StoreFactory) -> None:
    """Deltas for the window that was debited change it, and it never falls below zero."""

    async def attempt(pair: Connected, bucket: str) -> bool:
        limits = pair.second.limits
        grant = await _take(pair, bucket, 20)
        await limits.adjust("t", bucket, 1, [_back(bucket, -15, grant), _back(bucket, 3, grant)])
        middle = await _take(pair, bucket, 1)
        await limits.adjust("t", bucket, 2, [_back(bucket, -1000, grant)])
        end = await _take(pair, bucket, 1)
        if end.window != grant.window:
            return False
        same((middle.used, end.used), (9, 1), "used after -15 and +3, and after -1000")
        return True

    await _until_in_time(open, attempt)


async def check_windows_take_back_what_was_taken_before(open: StoreFactory) -> None:
    """Deltas for the window before change what still counts of it."""

    async def attempt(pair: Connected, bucket: str) -> bool:
        grant = await _take(pair, bucket, LIMIT)
        await _next_window(pair, grant)
        give_back = [_back(bucket, -LIMIT, grant)]
        await pair.second.limits.adjust("t", bucket, 1, give_back)
        seen = await _take(pair, bucket, 1)
        if seen.window != grant.window + 1:
            return False
        same(seen.used, 1, "used after all of the window before was given back")
        return True

    await _until_in_time(open, attempt)


async def check_windows_that_are_over_are_left_alone(open: StoreFactory) -> None:
    """Deltas for a window that no longer counts change nothing."""

    async def attempt(pair: Connected, bucket: str) -> bool:
        old = await _take(pair, bucket, 10)
        await pair.sleep(old.reset_s + 0.02)
        new = await _take(pair, bucket, 10)
        deltas = [_back(bucket, -5, old), _back(bucket, 7, old)]
        await pair.second.limits.adjust("t", bucket, 1, deltas)
        seen = await _take(pair, bucket, 1)
        if seen.window != new.window:
            return False
        require(new.window >= old.window + 2, "two windows must lie between")
        same(seen.used, 11, "used after deltas for a window that is over")
        return True

    await _until_in_time(open, attempt)


CHECKS: tuple[StoreCheck, ...] = (
    check_windows_slide,
    check_windows_say_when_to_come_back,
    check_windows_empty,
    check_windows_take_back_what_was_taken_now,
    check_windows_take_back_what_was_taken_before,
    check_windows_that_are_over_are_left_alone,
)
