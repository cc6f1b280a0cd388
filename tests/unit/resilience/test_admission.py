from __future__ import annotations

import asyncio
import time

import pytest

from routeiq.resilience.admission import Admission


def test_no_more_than_the_limit_get_in() -> None:
    admission = Admission(2)
    assert [admission.enter() for _ in range(3)] == [True, True, False]
    assert admission.in_flight == 2
    admission.leave()
    assert admission.enter()


def test_zero_is_no_limit() -> None:
    admission = Admission(0)
    assert all(admission.enter() for _ in range(1000))


def test_nobody_gets_in_while_draining() -> None:
    admission = Admission(0)
    assert not admission.draining
    admission.drain()
    assert admission.draining
    assert not admission.enter()
    assert admission.in_flight == 0


@pytest.mark.anyio
async def test_drained_returns_at_once_when_empty() -> None:
    admission = Admission(1)
    admission.drain()
    await asyncio.wait_for(admission.drained(), 1)


@pytest.mark.anyio
async def test_drained_waits_for_the_last_for_every_waiter() -> None:
    admission = Admission(0)
    admission.enter()
    admission.enter()
    admission.drain()
    waiters = [asyncio.ensure_future(admission.drained()) for _ in range(2)]
    admission.leave()
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)
    admission.leave()
    await asyncio.wait_for(asyncio.gather(*waiters), 1)


def test_a_refusal_costs_less_than_50_microseconds() -> None:
    admission = Admission(1)
    admission.enter()
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        admission.enter()
        best = min(best, time.perf_counter() - start)
    assert best < 50e-6
