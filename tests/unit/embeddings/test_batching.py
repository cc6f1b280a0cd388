from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from routeiq.embeddings.batching import MicroBatcher

pytestmark = pytest.mark.anyio


class Runner:
    """Doubles numbers, and waits for `gate` before it does; remembers what it was given."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        assert self.gate.wait(5)
        if 13 in items:
            raise ValueError("unlucky")
        return [2 * item for item in items]


@pytest.fixture
def runner() -> Runner:
    return Runner()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.001)


async def test_items_that_arrive_together_are_computed_together(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_batch=4, max_wait_ms=5)
    found = await asyncio.gather(*(batcher.submit(item) for item in range(4)))
    assert found == [0, 2, 4, 6]
    assert runner.batches == [[0, 1, 2, 3]]
    assert (batcher.batches, batcher.items) == (1, 4)


async def test_a_single_item_waits_no_longer_than_it_must(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_batch=4, max_wait_ms=5)
    assert await batcher.submit(7) == 14
    assert runner.batches == [[7]]


async def test_without_waiting_an_idle_thread_starts_at_once(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_batch=4, max_wait_ms=0)
    runner.gate.clear()
    callers = [asyncio.ensure_future(batcher.submit(item)) for item in range(6)]
    await until(lambda: runner.batches == [[0]])
    runner.gate.set()
    assert await asyncio.gather(*callers) == [0, 2, 4, 6, 8, 10]
    assert runner.batches == [[0], [1, 2, 3, 4], [5]]


async def test_equal_items_are_computed_once(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    first = [asyncio.ensure_future(batcher.submit(1)) for _ in range(3)]
    await until(lambda: runner.batches == [[1]])
    later = [asyncio.ensure_future(batcher.submit(item)) for item in (1, 2, 2)]
    await asyncio.sleep(0)
    runner.gate.set()
    assert await asyncio.gather(*first, *later) == [2, 2, 2, 2, 4, 4]
    assert runner.batches == [[1], [2]]


async def test_a_full_queue_refuses_at_once(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0, max_queue=2)
    runner.gate.clear()
    callers = [asyncio.ensure_future(batcher.submit(item)) for item in range(3)]
    await until(lambda: len(runner.batches) == 1)
    assert batcher.full
    assert await batcher.submit(9) is None
    assert batcher.refused == 1
    runner.gate.set()
    assert await asyncio.gather(*callers) == [0, 2, 4]
    assert await batcher.submit(9) == 18


async def test_a_caller_that_leaves_takes_nothing_from_others(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    stays, leaves, alone = (asyncio.ensure_future(batcher.submit(item)) for item in (1, 1, 2))
    await until(lambda: len(runner.batches) == 1)
    leaves.cancel()
    alone.cancel()
    await asyncio.wait([leaves, alone])
    runner.gate.set()
    assert await stays == 2
    assert leaves.cancelled()
    assert await batcher.submit(3) == 6
    assert runner.batches == [[1], [3]]  # nobody waited for 2 any more


async def test_an_error_reaches_the_callers_of_its_batch_only(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    callers = [asyncio.ensure_future(batcher.submit(item)) for item in (1, 13, 2)]
    await until(lambda: len(runner.batches) == 1)
    runner.gate.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert found[0] == 2
    assert [str(error) for error in found[1:]] == ["unlucky", "unlucky"]
    assert await batcher.submit(2) == 4


async def test_an_error_that_nobody_waits_for_is_no_one_s(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    caller = asyncio.ensure_future(batcher.submit(13))
    await until(lambda: len(runner.batches) == 1)
    caller.cancel()
    await asyncio.wait([caller])
    runner.gate.set()
    assert await batcher.submit(1) == 2


async def test_a_function_that_loses_items_is_found_out() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(lambda items: items[1:], max_wait_ms=0)
    with pytest.raises(ValueError, match="1 items gave 0 results"):
        await batcher.submit(1)


async def test_threads_work_at_the_same_time(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0, max_batch=1, threads=2)
    runner.gate.clear()
    callers = [asyncio.ensure_future(batcher.submit(item)) for item in range(3)]
    await until(lambda: len(runner.batches) == 2)
    runner.gate.set()
    assert await asyncio.gather(*callers) == [0, 2, 4]


async def test_closing_answers_what_waits_and_delivers_what_runs(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    runs, waits = (asyncio.ensure_future(batcher.submit(item)) for item in (1, 2))
    await until(lambda: len(runner.batches) == 1)
    batcher.close()
    assert await waits is None
    assert await batcher.submit(3) is None
    runner.gate.set()
    assert await runs == 2
    assert runner.batches == [[1]]


async def test_closing_cancels_the_wait_for_others(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=40)
    caller = asyncio.ensure_future(batcher.submit(1))
    await asyncio.sleep(0)
    batcher.close()
    assert await caller is None
    assert runner.batches == []


async def test_the_loop_goes_on_while_a_batch_is_computed(runner: Runner) -> None:
    batcher = MicroBatcher(runner, max_wait_ms=0)
    runner.gate.clear()
    caller = asyncio.ensure_future(batcher.submit(1))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not caller.done()
    runner.gate.set()
    assert await caller == 2
