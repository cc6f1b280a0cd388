"""`Conversations`: remembered for their time, and not longer."""

from __future__ import annotations

from .connections import StoreCheck, StoreFactory, same


async def check_conversations_are_shared(open: StoreFactory) -> None:
    """Set over one connection, read over the other; the last one counts; several at once."""
    async with open() as pair:
        a, b = pair.first.conversations, pair.second.conversations
        same(await b.get("k"), None, "a conversation that nobody knows")
        await a.put({"k": "d1", "é{中}:*": "modèle/\U0001f600", "x" * 64: "d" * 300}, 60.0)
        await b.put({"k": "d2"}, 60.0)
        await b.put({}, 60.0)
        same(await a.get("k"), "d2", "the last deployment")
        same(await b.get("é{中}:*"), "modèle/\U0001f600", "text of any script")
        same(await b.get("x" * 64), "d" * 300, "long values")
        await b.delete(["k", "unknown"])
        await b.delete([])
        same(await a.get("k"), None, "a conversation that was deleted")
        await a.put({f"many-{number}": f"d{number}" for number in range(1500)}, 60.0)
        same(await b.get("many-1499"), "d1499", "the last of 1,500 at once")
        await b.delete([f"many-{number}" for number in range(1500)])
        same(await a.get("many-0"), None, "the first of 1,500 after their deletion")


async def check_conversations_expire(open: StoreFactory) -> None:
    """Each lasts for its time from the last `put`; `prune` deletes only what has expired."""
    async with open() as pair:
        a, b = pair.first.conversations, pair.second.conversations
        await a.put({"short": "d", "renewed": "d"}, 0.3)
        await a.put({"long": "d"}, 60.0)
        await b.put({"renewed": "e"}, 60.0)
        same(await b.get("long"), "d", "before its time is over")
        await pair.sleep(0.45)
        same(await b.get("short"), None, "after its time is over")
        pruned = await b.prune()
        same(pruned in (0, 1), True, f"{pruned} pruned of one that had expired")
        same((await a.get("renewed"), await a.get("long")), ("e", "d"), "the others")


CHECKS: tuple[StoreCheck, ...] = (check_conversations_are_shared, check_conversations_expire)
