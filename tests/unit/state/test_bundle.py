from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from routeiq.config.state import State as Section
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.state.bundle import State, memory_state, open_state
from routeiq.stores import Change
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
POSTGRES = "postgresql://ann:db-secret@127.0.0.1:9/none"
REDIS = "redis://:redis-secret@127.0.0.1:9/0"
SHARED = ("limits", "counters", "board", "conversations", "leases", "events")
LEDGERS = ("directory", "documents", "audit", "roster", "decisions")


def opened(clock: FakeClock, database: str, redis: str | None = None) -> State:
    return open_state(database_url=database, redis_url=redis, section=Section(), clock=clock)


def places(state: State, names: tuple[str, ...]) -> set[str]:
    """The packages that the stores come from."""
    return {type(getattr(state, name)).__module__.split(".")[2] for name in names}


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db"


async def test_one_file_is_everything(clock: FakeClock, sqlite: str) -> None:
    before = threading.active_count()
    state = opened(clock, sqlite)
    assert threading.active_count() == before, "nothing runs before `start`: a fork would lose it"
    assert not Path(sqlite.removeprefix("sqlite:///")).exists()
    await state.start()
    assert {name: one["state"] for name, one in state.reports().items()} == {
        "database": "up",
        "shared": "up",
    }
    change = Change(actor="a", action="b", target="c")
    await state.documents.write("strategy", {"name": "x"}, change)
    await state.counters.apply("g", "w", 1, {"a": 2})
    await state.conversations.put({"k": "d"}, 60.0)
    await state.prune()
    await state.close()
    again = opened(clock, sqlite)
    await again.start()
    assert (await again.documents.read("strategy")).body == {"name": "x"}
    assert await again.counters.read("g") == {"a": 2}
    await again.close()
    assert again.spending is None, "the limits are durable themselves"


@pytest.mark.parametrize("redis", [None, REDIS])
async def test_with_redis_what_is_shared_lives_there(
    clock: FakeClock, sqlite: str, redis: str | None
) -> None:
    if redis is not None:
        pytest.importorskip("redis")
    state = opened(clock, sqlite, redis)
    assert places(state, SHARED) == ({"shared"} if redis is None else {"redis"})
    assert places(state, LEDGERS) == {"ledgers", "decisions"}
    assert (state.spending is None) is (redis is None)
    if redis is not None:
        assert places(state, ("spending",)) == {"shared"}, "budgets outlive a Redis that forgets"
        assert set(state.links) == {"database", "shared", "redis"}
    await state.close()


async def test_a_database_that_is_down_is_noted_and_nothing_waits(clock: FakeClock) -> None:
    pytest.importorskip("psycopg")
    state = opened(clock, POSTGRES)
    await state.start()
    assert state.reports()["database"]["state"] == "down"
    with pytest.raises(StoreUnavailable):
        await state.documents.all()
    assert "secret" not in str(state.reports())
    assert "127.0.0.1" not in str(state.reports())
    await state.close()


@pytest.mark.parametrize(
    ("database", "redis"),
    [
        ("mysql://h/d", None),
        ("postgresql://[::1/d", None),
        ("sqlite://", None),
        ("sqlite:////tmp/a.db", "http://h"),
        ("sqlite:////tmp/a.db", "redis://[::1"),
    ],
)
def test_urls_that_cannot_be_used(clock: FakeClock, database: str, redis: str | None) -> None:
    with pytest.raises(ConfigError):
        opened(clock, database, redis)


async def test_memory_has_every_store_and_nothing_to_watch(clock: FakeClock) -> None:
    state = memory_state(clock)
    await state.start()
    await state.run()
    assert state.reports() == {}
    assert state.decisions is None
    assert state.listening()
    await state.prune()
    await state.close()


@pytest.mark.parametrize("listening", [True, False])
async def test_whether_announcements_arrive(clock: FakeClock, listening: bool) -> None:
    state = memory_state(clock)
    state.events.listening = listening  # type: ignore[attr-defined]
    assert state.listening() is listening


async def test_one_that_cannot_be_closed_keeps_no_other_open(clock: FakeClock) -> None:
    state, closed = memory_state(clock), []

    async def fails() -> Any:
        raise OSError("gone")

    async def closes() -> None:
        closed.append(1)

    state.closes = [fails, closes]
    await state.close()
    assert closed == [1]


async def test_expired_rows_go_where_the_store_does_not_do_it(
    clock: FakeClock, sqlite: str
) -> None:
    state, pruned = opened(clock, sqlite), []
    assert len(state.prunes) == 1

    async def prune() -> None:
        pruned.append(1)

    state.prunes = [prune]
    await state.start()
    await state.prune()
    assert pruned == [1]
    await state.close()
