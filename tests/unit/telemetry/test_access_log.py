from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import orjson
import pytest

from routeiq.telemetry.access_log import AccessLog
from routeiq.telemetry.output import Output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        try:
            os.close(end)
        except OSError:
            continue


def lines(fd: int) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in os.read(fd, 1_000_000).splitlines()]


@pytest.mark.anyio
async def test_lines_are_written_soon_and_in_order(pipe: tuple[int, int]) -> None:
    log = AccessLog(asyncio.get_running_loop(), Output(pipe[1]))
    for n in range(3):
        log.write("said", {"time": 0.0, "n": n})
    await asyncio.sleep(0.3)
    assert [line["n"] for line in lines(pipe[0])] == [0, 1, 2]


@pytest.mark.anyio
async def test_close_hands_over_what_is_queued(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    log = AccessLog(asyncio.get_running_loop(), output)
    log.write("said", {"time": 0.0, "n": 1})
    log.close()
    output.flush(5.0)
    (line,) = lines(pipe[0])
    assert line == {
        "timestamp": "1970-01-01T00:00:00+00:00",
        "level": "INFO",
        "service": "routeiq",
        "worker_id": os.getpid(),
        "message": "said",
        "time": 0.0,
        "n": 1,
    }


@pytest.mark.anyio
async def test_while_the_reader_is_stuck_the_oldest_lines_are_dropped_and_counted(
    pipe: tuple[int, int],
) -> None:
    output = Output(pipe[1])
    output.put(lambda: b"x" * 1_000_000 + b"\n")  # more than a pipe holds
    log = AccessLog(asyncio.get_running_loop(), output, limit=2)
    for n in range(5):
        log.write("said", {"time": 0.0, "n": n})
    await asyncio.sleep(0.2)
    assert output.busy
    assert log.dropped == 3
    read = b""
    while b'"n":4' not in read:
        await asyncio.sleep(0.01)
        read += await asyncio.to_thread(os.read, pipe[0], 200_000)
    assert [orjson.loads(line)["n"] for line in read.splitlines()[1:]] == [3, 4]


def test_what_cannot_be_written_is_counted_and_the_rest_goes_on() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    output = Output(full)
    output.put(lambda: b"lost", 7)
    output.flush(5.0)
    assert output.dropped == 7
    os.close(full)


def test_a_full_queue_drops_and_counts(pipe: tuple[int, int]) -> None:
    gate = threading.Event()
    output = Output(pipe[1], limit=1)

    def slow() -> bytes:
        gate.wait(10.0)
        return b"a"

    output.put(slow)
    while not output._writing:
        gate.wait(0.001)
    output.put(lambda: b"b")
    output.put(lambda: b"c", 2)
    assert output.dropped == 2
    gate.set()
    output.flush(5.0)
    assert os.read(pipe[0], 10) == b"ab"


def test_flush_gives_up_on_a_stuck_reader(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    output.put(lambda: b"x" * 1_000_000)
    output.flush(0.05)
    assert output.busy
    left = 1_000_000  # let the thread end: its file descriptor's number will be used again
    while left:
        left -= len(os.read(pipe[0], left))
    output.flush(5.0)
    assert not output.busy


def test_a_forked_child_writes_its_own_lines_only(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    output.put(lambda: b"parent ")
    output.flush(5.0)
    child = os.fork()
    if child == 0:
        output.put(lambda: b"child ")
        output.flush(5.0)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(pipe[0], 100) == b"parent child "
