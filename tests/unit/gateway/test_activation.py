from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from routeiq.exceptions import ConfigError, Problem
from routeiq.gateway.activation import RETRY_S, Activation
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


class Served:
    """Stands for router, feedback and syncer: does what the test says and notes what was asked of it."""

    def __init__(self) -> None:
        self.reloads = 0
        self.looks = 0
        self.answer: list[str] | Exception = []
        self.trouble: Exception | None = None
        self.learned = 3
        self.refused = 1
        self.stopped = threading.Event()
        self.inside = 0

    def strategy_names(self) -> list[str]:
        return ["hybrid"]

    def reload(self) -> list[str]:
        self.reloads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def look(self) -> None:
        self.looks += 1
        self.inside += 1
        assert self.inside == 1, "two looks at a time would read the file twice"
        await asyncio.sleep(0)
        self.inside -= 1
        if self.trouble is not None:
            raise self.trouble

    def run(self, wait: Callable[[float], bool]) -> None:
        if wait(30.0):
            self.stopped.set()

    def status(self) -> dict[str, Any]:
        return {"uri": "s3://bucket"}


@pytest.fixture
def served() -> Served:
    return Served()


def activation(served: Any, folder: Path, clock: FakeClock, *, sync: bool = False) -> Activation:
    return Activation(
        router=served,
        feedback=served,
        models_path=folder,
        syncer=served if sync else None,
        poll_s=0.001,
        clock=clock,
    )


def promote(folder: Path, text: str) -> None:
    (folder / "active.json").write_text(text)


REFUSED = ConfigError([Problem(key="routeiq.strategy", message="the artifact is cut.")])


async def test_the_first_look_reloads_and_the_next_only_after_a_change(
    served: Served, tmp_path: Path, clock: FakeClock
) -> None:
    loop = activation(served, tmp_path, clock)
    for _ in range(3):
        await loop.look()
    assert (served.reloads, served.looks) == (1, 3)
    promote(tmp_path, "x")
    served.answer = ["hybrid"]
    await loop.look()
    await loop.look()
    assert served.reloads == 2
    status = loop.status()
    assert (status["reloads"], status["reloaded_at"], status["error"]) == (1, clock.wall(), None)
    assert (status["feedback_learned"], status["feedback_refused"]) == (3, 1)
    assert status["sync"] is None


@pytest.mark.parametrize(
    ("error", "says"), [(REFUSED, "the artifact is cut"), (OSError("gone"), "OSError: gone")]
)
async def test_what_is_refused_is_told_tried_again_later_and_forgotten_when_it_works(
    served: Served,
    tmp_path: Path,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    says: str,
) -> None:
    loop = activation(served, tmp_path, clock)
    served.answer = error
    with caplog.at_level(logging.ERROR):
        await loop.look()
        await loop.look()
    assert served.reloads == 1
    assert says in str(loop.status()["error"])
    assert loop.status()["reloads"] == 0
    assert "the old one stays" in caplog.text
    clock.advance(RETRY_S)
    await loop.look()
    assert caplog.text.count("the old one stays") == 1  # the same again is no news
    served.answer = ["hybrid"]
    clock.advance(RETRY_S)
    await loop.look()
    assert (loop.status()["error"], loop.status()["reloads"], served.reloads) == (None, 1, 3)
    clock.advance(RETRY_S)
    await loop.look()
    assert served.reloads == 3


async def test_a_change_is_taken_at_once_after_a_refusal(
    served: Served, tmp_path: Path, clock: FakeClock
) -> None:
    loop = activation(served, tmp_path, clock)
    served.answer = REFUSED
    await loop.look()
    served.answer = ["hybrid"]
    promote(tmp_path, "rolled back")
    await loop.look()
    assert (loop.status()["error"], loop.status()["reloads"]) == (None, 1)


async def test_feedback_that_cannot_be_read_keeps_no_artifact_waiting(
    served: Served, tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    loop = activation(served, tmp_path, clock)
    served.trouble = PermissionError("no")
    served.answer = ["hybrid"]
    with caplog.at_level(logging.ERROR):
        await loop.look()
        await loop.look()
    assert loop.status()["reloads"] == 1
    assert loop.status()["feedback_error"] == "PermissionError: no"
    assert caplog.text.count("feedback cannot be read") == 1
    served.trouble = None
    await loop.look()
    assert loop.status()["feedback_error"] is None


async def test_looks_of_the_loop_and_of_an_admin_do_not_overlap(
    served: Served, tmp_path: Path, clock: FakeClock
) -> None:
    loop = activation(served, tmp_path, clock)
    await asyncio.gather(*(loop.look() for _ in range(5)))
    assert (served.looks, served.reloads) == (5, 1)
    assert loop.status()["feedback_error"] is None


async def test_the_loop_outlives_failures_and_stops_the_sync_when_it_ends(
    served: Served, tmp_path: Path, clock: FakeClock
) -> None:
    served.answer, served.trouble = OSError("x"), OSError("y")
    loop = activation(served, tmp_path, clock, sync=True)
    running = asyncio.create_task(loop.run())
    while served.looks < 3:
        await asyncio.sleep(0)
    assert not running.done()
    assert loop.status()["sync"] == {"uri": "s3://bucket"}
    assert not served.stopped.is_set()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(served.stopped.wait, 5.0)


async def test_without_an_address_nothing_is_fetched(
    served: Served, tmp_path: Path, clock: FakeClock
) -> None:
    loop = activation(served, tmp_path, clock)
    running = asyncio.create_task(loop.run())
    while served.looks < 1:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert loop.status()["sync"] is None
