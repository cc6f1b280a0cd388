from __future__ import annotations

import asyncio
import logging
import random

import pytest

from routeiq.exceptions import StoreUnavailable
from routeiq.state import link as module
from routeiq.state.link import SLOWNESS, Link
from tests.support.clock import FakeClock


@pytest.fixture
def link(clock: FakeClock) -> Link:
    return Link("redis", clock, rng=random.Random(1))


def test_it_is_worth_asking_until_it_is_known_to_be_down(link: Link) -> None:
    assert link.up
    link.check()
    link.worked()
    link.check()
    link.failed(ConnectionRefusedError("refused"))
    assert not link.up
    with pytest.raises(StoreUnavailable, match="redis is unavailable: ConnectionRefusedError: ref"):
        link.check()
    link.worked()
    link.check()


def test_a_cut_connection_counts_at_once_and_an_outage_once(link: Link) -> None:
    link.worked()
    for _ in range(3):
        error = link.failed(OSError("cut"))
        assert str(error) == "redis is unavailable: OSError: cut"
    assert (link.state, link.outages) == ("down", 1)


def test_slowness_counts_when_it_lasts(link: Link) -> None:
    link.worked()
    states = []
    for slow in (True,) * (SLOWNESS - 1) + (False,) + (True,) * SLOWNESS:
        if slow:
            link.failed(TimeoutError("slow"), slow=True)
        else:
            link.worked()  # one in time: counting begins again
        states.append(link.state)
    assert states == ["up"] * (2 * SLOWNESS - 1) + ["down"]


def test_its_return_is_told_each_time(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    link.on_up.append(lambda: told.append("up"))
    link.worked()
    link.worked()
    assert told == ["up"]
    assert caplog.messages == []
    link.failed(OSError("cut"))
    link.worked()
    assert told == ["up", "up"]
    assert caplog.messages == ["store is down", "store is back"]


def test_the_report_is_public(link: Link, clock: FakeClock) -> None:
    clock.advance(5)
    link.failed(OSError("connect to db.internal:5432 failed"))
    assert link.report() == {"state": "down", "since": clock.wall(), "outages": 1}


def test_a_long_error_is_cut(link: Link) -> None:
    assert len(str(link.failed(OSError("x" * 5000)))) < 400


@pytest.mark.anyio
async def test_pings_go_on_until_the_store_is_back(
    link: Link, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    answers = iter((None, OSError("1"), OSError("2"), OSError("3"), OSError("4"), None))
    states: list[str] = []
    pauses: list[float] = []
    back = asyncio.Event()

    async def ping() -> None:
        states.append(link.state)
        answer = next(answers, back)
        if answer is back:
            back.set()
            await asyncio.Event().wait()
        if isinstance(answer, OSError):
            raise answer

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(module, "PING_S", 0.001)
    pinging = asyncio.create_task(link.run(ping))
    await asyncio.wait_for(back.wait(), 10)
    pinging.cancel()
    await asyncio.gather(pinging, return_exceptions=True)
    assert states == ["connecting", "up", "down", "down", "down", "down", "up"]
    for pause, longest in zip(pauses, (0.2, 0.4, 0.8, 1.6), strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.anyio
async def test_a_failure_elsewhere_wakes_the_pings(link: Link) -> None:
    pings = 0
    again = asyncio.Event()

    async def ping() -> None:
        nonlocal pings
        pings += 1
        if pings == 2:
            again.set()

    pinging = asyncio.create_task(link.run(ping))
    while link.state != "up":
        await asyncio.sleep(0)
    link.failed(OSError("cut"))
    await asyncio.wait_for(again.wait(), 3)  # and not after PING_S
    pinging.cancel()
    await asyncio.gather(pinging, return_exceptions=True)
