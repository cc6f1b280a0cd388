"""`Directory` and `Documents`: nothing is overwritten unseen, every change is audited and announced."""

from __future__ import annotations

import asyncio
from typing import Any

from routeiq.exceptions import Conflict
from routeiq.stores import Change, Directory, Entity, EntityKind

from .connections import StoreCheck, StoreFactory, require, same
from .events import Listener

BODY = {"tags": ["é中\U0001f600", "x" * 5000], "limits": {"rpm": 10}, "none": None, "usd": 0.1}


def change(action: str, target: str = "t") -> Change:
    """What is written to the audit trail."""
    return Change(
        actor="chéck", action=action, target=target, details={"n": [1, None]}, request_id="r1"
    )


def entity(kind: EntityKind, id: str, **fields: Any) -> Entity:
    """A new entity; its alias is its id. `hash` is the hash of its secret."""
    alias, secret_hash = fields.pop("alias", id), fields.pop("hash", None)
    return Entity(id=id, kind=kind, alias=alias, secret_hash=secret_hash, **fields)


async def conflicts(call: Any, what: str) -> None:
    """Fail unless this raises `Conflict`."""
    try:
        await call
    except Conflict:
        return
    raise AssertionError(f"{what} must raise Conflict")


async def check_directory_keeps_entities(open: StoreFactory) -> None:
    """What one connection creates, the other reads, field by field; unknown ones are `None`."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        same(await b.find("unknown"), None, "an unknown hash")
        same(await b.get("key", "unknown"), None, "an unknown id")
        await a.create(entity("team", "t1"), change("teams.create"))
        await a.create(entity("user", "u1", team="t1"), change("users.create"))
        key = entity(
            "key",
            "k1",
            alias="schlüssel \U0001f600",
            body=BODY,
            hash="h" * 64,
            prefix="sk-riq-abcd",
            owner="u1",
            team="t1",
            expires_at=4_000_000_000.5,
            revoked_at=3_000_000_000.25,
        )
        made = await a.create(key, change("keys.create"))
        read = await b.get("key", "k1")
        same(read, made, "a key that was created")
        require(read is not None, "a key that was created")
        same(await b.find("h" * 64), made, "a revoked key by its hash")
        same(await b.get("user", "k1"), None, "a key is no user")
        same((made.version, made.alias, made.body), (1, key.alias, BODY), "version, alias, body")
        same(
            (made.owner, made.team, made.prefix, made.expires_at, made.revoked_at),
            (key.owner, key.team, key.prefix, key.expires_at, key.revoked_at),
            "the other fields",
        )
        require(made.created_at > 0, "`created_at` must be set")


async def check_directory_refuses_what_is_taken(open: StoreFactory) -> None:
    """Ids, aliases of one kind and hashes are unique, also when many create at once."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        await a.create(entity("key", "k1", hash="h1"), change("keys.create"))
        await a.create(entity("user", "u9", alias="k1"), change("users.create"))
        before = await b.generation()
        for twin, what in (
            (entity("key", "k1", alias="other"), "the same id"),
            (entity("key", "k2", alias="k1"), "the same alias"),
            (entity("key", "k2", hash="h1"), "the same hash"),
        ):
            await conflicts(b.create(twin, change("keys.create")), what)
        same(await a.generation(), before, "the generation after refusals")
        both = (a, b)
        made = await asyncio.gather(
            *(
                both[n % 2].create(entity("team", f"t{n}", alias="one"), change("teams.create"))
                for n in range(20)
            ),
            return_exceptions=True,
        )
        same(sum(isinstance(one, Entity) for one in made), 1, "teams with one alias")
        require(all(isinstance(one, Entity | Conflict) for one in made), f"only Conflict: {made!r}")


async def check_directory_updates_by_version(open: StoreFactory) -> None:
    """Who read an old version is refused; of many that read the same one, one wins."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        first = await a.create(entity("user", "u1", body={"n": 0}), change("users.create"))
        second = await b.update(_with(first, body={"n": 1}), change("users.update"))
        same((second.version, second.body), (2, {"n": 1}), "after an update")
        same(await a.get("user", "u1"), second, "what is read then")
        await conflicts(a.update(first, change("users.update")), "an update of an old version")
        gone = _with(second, id="gone", alias="gone")
        await conflicts(a.update(gone, change("users.update")), "an update of nothing")
        both = (a, b)
        done = await asyncio.gather(
            *(
                both[n % 2].update(_with(second, body={"n": n}), change("users.update"))
                for n in range(20)
            ),
            return_exceptions=True,
        )
        same(sum(isinstance(one, Entity) for one in done), 1, "updates of one version")
        await b.create(entity("user", "u2"), change("users.create"))
        third = await a.get("user", "u1")
        require(third is not None and third.version == 3, "the third version")
        if third is not None:
            taken = a.update(_with(third, alias="u2"), change("users.update"))
            await conflicts(taken, "an alias that is taken")


async def check_directory_deletes(open: StoreFactory) -> None:
    """What others belong to stays; what was deleted is gone and says so."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        await a.create(entity("team", "t1"), change("teams.create"))
        await a.create(entity("user", "u1", team="t1"), change("users.create"))
        await a.create(entity("key", "k1", owner="u1", hash="h"), change("keys.create"))
        await a.create(entity("team", "t2"), change("teams.create"))
        await a.create(entity("key", "k2", team="t2"), change("keys.create"))
        owners: tuple[tuple[EntityKind, str], ...] = (
            ("team", "t1"),
            ("user", "u1"),
            ("team", "t2"),
        )
        for kind, id in owners:
            await conflicts(b.delete(kind, id, change("x.delete")), f"{kind} {id} with members")
        same(await b.delete("key", "k1", change("keys.delete")), True, "a key")
        same(await a.delete("key", "k1", change("keys.delete")), False, "a key that is gone")
        same((await a.get("key", "k1"), await a.find("h")), (None, None), "a deleted key")
        same(await a.delete("user", "u1", change("users.delete")), True, "a user without keys")
        same(await a.delete("team", "t1", change("teams.delete")), True, "a team without members")
        again = await b.create(entity("key", "k1", hash="h"), change("keys.create"))
        same(again.version, 1, "the version of a new key with an old id")


async def check_directory_lists_in_pages(open: StoreFactory) -> None:
    """Each kind in the order of ids, page after page, of one team if asked."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        ids = ["a", "b-2", "b1", "c", "é"]
        await a.create(entity("team", "t"), change("teams.create"))
        for id in reversed(ids):
            team = "t" if id in "ac" else None
            await a.create(entity("key", id, team=team), change("keys.create"))
        whole = [one.id for one in await b.list("key")]
        same(sorted(whole), sorted(ids), "all keys")
        paged, after = await _pages(b, size=2), whole[1]
        same(paged, whole, "pages of two")
        rest = [one.id for one in await b.list("key", after=after)]
        same(rest, whole[2:], "keys after the second")
        same({one.id for one in await b.list("key", team="t")}, {"a", "c"}, "keys of a team")
        same([one.id for one in await b.list("team")], ["t"], "teams")
        same(list(await b.list("user")), [], "users")


async def _pages(directory: Directory, size: int) -> list[str]:
    found: list[str] = []
    while page := await directory.list("key", after=found[-1] if found else "", limit=size):
        require(len(page) <= size, f"{len(page)} on a page of {size}")
        found.extend(one.id for one in page)
    return found


async def check_directory_counts_and_announces_changes(open: StoreFactory) -> None:
    """Every change bumps the generation and is audited (with `audit`) and announced (with `events`)."""
    async with open() as pair:
        a, b = pair.first.directory, pair.second.directory
        seen = [await b.generation()]
        made = await a.create(entity("key", "k1"), change("keys.create", "k1"))
        seen.append(await b.generation())
        await a.update(made, change("keys.update", "k1"))
        seen.append(await b.generation())
        await a.delete("key", "k1", change("keys.delete", "k1"))
        seen.append(await b.generation())
        require(seen == sorted(set(seen)), f"generations must grow: {seen}")
        if pair.second.audit is not None:
            rows = list(await pair.second.audit.latest())
            actions = ["keys.delete", "keys.update", "keys.create"]
            same([row["action"] for row in rows], actions, "audit")
            same({row["target"] for row in rows}, {"k1"}, "the targets")
        if pair.second.events is not None:
            async with Listener(pair.second.events) as heard:
                await a.create(entity("user", "u1"), change("users.create"))
                events = await heard.topic("keys", 1)
            same((events[0]["kind"], events[0]["id"]), ("user", "u1"), "the announcement")


def _with(entity: Entity, **fields: Any) -> Entity:
    names = ("id", "kind", "alias", "version", "body", "secret_hash", "prefix", "owner", "team")
    times = ("created_at", "expires_at", "revoked_at")
    return Entity(**{**{name: getattr(entity, name) for name in names + times}, **fields})


async def check_documents_are_versioned(open: StoreFactory) -> None:
    """Versions grow by one, deletions included; `expected` guards against unseen changes."""
    async with open() as pair:
        a, b = pair.first.documents, pair.second.documents
        never = await a.read("strategy é")
        same((never.version, never.body), (0, None), "a document that nobody wrote")
        made = await a.write("strategy é", BODY, change("strategy.write"), expected=0)
        same((made.name, made.version, made.body), ("strategy é", 1, BODY), "the first version")
        same(await b.read("strategy é"), made, "what the other reads")
        same((made.updated_by, made.updated_at > 0), ("chéck", True), "who and when")
        await b.write("strategy é", {"n": 2}, change("strategy.write"))
        stale = a.write("strategy é", {"n": 3}, change("strategy.write"), expected=1)
        await conflicts(stale, "an old `expected`")
        gone = await a.write("strategy é", None, change("strategy.delete"), expected=2)
        same((gone.version, gone.body), (3, None), "a deletion")
        late = b.write("strategy é", {}, change("strategy.write"), expected=0)
        await conflicts(late, "`expected` 0 after a deletion")
        empty = await b.write("strategy é", {}, change("strategy.write"), expected=3)
        same((empty.version, empty.body), (4, {}), "an empty body is a body")


async def check_documents_let_one_writer_win(open: StoreFactory) -> None:
    """Of many that expect the same version one writes; without `expected` all do."""
    async with open() as pair:
        both = (pair.first.documents, pair.second.documents)
        for expected in (0, 1):
            done = await asyncio.gather(
                *(
                    both[n % 2].write("d", {"n": n}, change("d.write"), expected=expected)
                    for n in range(20)
                ),
                return_exceptions=True,
            )
            won = [one for one in done if not isinstance(one, BaseException)]
            same(len(won), 1, f"writers that expected version {expected}")
            require(
                all(isinstance(one, Conflict) or one in won for one in done), f"Conflict: {done}"
            )
        await asyncio.gather(
            *(both[n % 2].write("d", {"n": n}, change("d.write")) for n in range(20))
        )
        same((await both[0].read("d")).version, 22, "the version after twenty more")


async def check_documents_are_read_together(open: StoreFactory) -> None:
    """`all` has every document with the generation, which grows with every write."""
    async with open() as pair:
        a, b = pair.first.documents, pair.second.documents
        seen = [await b.generation()]
        for name, body in (("x", {"n": 1}), ("y", {"n": 2}), ("x", None)):
            await a.write(name, body, change(name + ".write"))
            seen.append(await b.generation())
        require(seen == sorted(set(seen)), f"generations must grow: {seen}")
        generation, documents = await b.all()
        same(generation, seen[-1], "the generation of `all`")
        same(documents["y"], await a.read("y"), "a document of `all`")
        same(documents["x"].version if "x" in documents else 2, 2, "a deleted document")
        await conflicts(a.write("x", {}, change("x.write"), expected=9), "a wrong version")
        same(await b.generation(), generation, "the generation after a refusal")


async def check_documents_announce_changes(open: StoreFactory) -> None:
    """Every write is audited (with `audit`) and announced on `control` (with `events`)."""
    async with open() as pair:
        await pair.first.documents.write("x", {}, change("x.write", "x"))
        if pair.second.audit is not None:
            rows = await pair.second.audit.latest()
            same([(row["action"], row["target"]) for row in rows], [("x.write", "x")], "audit")
        if pair.second.events is not None:
            async with Listener(pair.second.events) as heard:
                made = await pair.first.documents.write("x", {"n": 1}, change("x.write"))
                event = (await heard.topic("control", 1))[0]
            same((event["name"], event["version"]), ("x", made.version), "the announcement")
            same(event["generation"], await pair.second.documents.generation(), "its generation")


DIRECTORY: tuple[StoreCheck, ...] = (
    check_directory_keeps_entities,
    check_directory_refuses_what_is_taken,
    check_directory_updates_by_version,
    check_directory_deletes,
    check_directory_lists_in_pages,
    check_directory_counts_and_announces_changes,
)
DOCUMENTS: tuple[StoreCheck, ...] = (
    check_documents_are_versioned,
    check_documents_let_one_writer_win,
    check_documents_are_read_together,
    check_documents_announce_changes,
)
