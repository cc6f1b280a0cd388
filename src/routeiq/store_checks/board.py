"""`Board`: every worker sees which breakers are open, and one of them probes."""

from __future__ import annotations

import asyncio

from routeiq.stores import Notice

from .connections import StoreCheck, StoreFactory, require, same
from .events import Listener


async def check_board_shows_open_breakers(open: StoreFactory) -> None:
    """Notices are seen by all until they are closed; the last one for a breaker counts."""
    async with open() as pair:
        a, b = pair.first.board, pair.second.board
        same(list(await b.all()), [], "an empty board")
        await a.open(Notice(id="d1", left_s=30.0, worker="w1", reason="é {x}: 5 x 503"))
        await b.open(Notice(id="d2", left_s=20.0, worker="w2"))
        await b.open(Notice(id="d1", left_s=60.0, worker="w2", reason="again"))
        notices = {notice.id: notice for notice in await a.all()}
        same(sorted(notices), ["d1", "d2"], "open breakers")
        same((notices["d1"].worker, notices["d1"].reason), ("w2", "again"), "the last notice")
        require(50.0 < notices["d1"].left_s <= 60.0, f"left: {notices['d1'].left_s} of 60 s")
        await b.close("d1", "w2")
        await b.close("unknown", "w2")
        same([notice.id for notice in await a.all()], ["d2"], "after one was closed")


async def check_board_keeps_what_may_be_probed(open: StoreFactory) -> None:
    """A breaker whose time is over is still open, until a probe went well."""
    async with open() as pair:
        await pair.first.board.open(Notice(id="d", left_s=0.2, worker="w1"))
        await pair.sleep(0.3)
        left = [(notice.id, notice.left_s) for notice in await pair.second.board.all()]
        same(left, [("d", 0.0)], "a breaker that may be probed")


async def check_board_lets_one_probe(open: StoreFactory) -> None:
    """One of many claims succeeds; the next after its time, or when the breaker was closed."""
    async with open() as pair:
        both = (pair.first.board, pair.second.board)
        await both[0].open(Notice(id="d", left_s=0.0, worker="w"))
        won = await asyncio.gather(
            *(both[task % 2].claim_probe("d", f"w{task}", 30.0) for task in range(40))
        )
        same(sum(won), 1, "claims that succeeded of forty at once")
        winner = won.index(True)
        again = await both[0].claim_probe("d", f"w{winner}", 30.0)
        same(again, False, "a second probe by the same worker")
        same(await both[1].claim_probe("other", "w", 0.2), True, "a claim for another breaker")
        await pair.sleep(0.35)
        same(await both[0].claim_probe("other", "v", 30.0), True, "a claim after the first's time")
        await both[1].close("d", f"w{winner}")
        await both[0].open(Notice(id="d", left_s=0.0, worker="w"))
        same(await both[1].claim_probe("d", "w", 30.0), True, "a claim after it was closed")


async def check_board_gives_news_time(open: StoreFactory) -> None:
    """Who has not heard that the probe failed does not get the next one at once."""
    async with open() as pair:
        a, b = pair.first.board, pair.second.board
        await a.open(Notice(id="d", left_s=0.0, worker="w"))
        same(await a.claim_probe("d", "w", 30.0), True, "a claim after the pause")
        await a.open(Notice(id="d", left_s=2.0, worker="w"))
        same(await b.claim_probe("d", "v", 30.0), False, "a claim just after the probe failed")
        await pair.sleep(1.3)
        same(await b.claim_probe("d", "v", 30.0), True, "a claim later in the pause")


async def check_board_announces_changes(open: StoreFactory) -> None:
    """Workers hear on topic `breakers` what was opened and closed (only checked with `events`)."""
    async with open() as pair:
        if pair.second.events is None:
            return
        async with Listener(pair.second.events) as heard:
            await pair.first.board.open(Notice(id="d", left_s=9.0, worker="w1"))
            await pair.first.board.close("d", "w1")
            events = await heard.topic("breakers", 2)
        same([event["id"] for event in events], ["d", "d"], "which breakers")
        same([event["worker"] for event in events], ["w1", "w1"], "by whom")
        same([event["state"] for event in events], ["open", "closed"], "what happened")
        same(events[0]["left_s"], 9.0, "for how long")


CHECKS: tuple[StoreCheck, ...] = (
    check_board_shows_open_breakers,
    check_board_keeps_what_may_be_probed,
    check_board_lets_one_probe,
    check_board_gives_news_time,
    check_board_announces_changes,
)
