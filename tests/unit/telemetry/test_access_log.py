from __future__ import annotations

import asyncio
import os

import orjson
import pytest

from routeiq.telemetry.access_log import AccessLog


def lines(fd: int) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in os.read(fd, 1_000_000).splitlines()]


@pytest.mark.anyio
async def test_lines_are_written_soon_and_in_order() -> None:
    reader, writer = os.pipe()
    log = AccessLog(asyncio.get_running_loop(), writer)
    for n in range(3):
        log.write("said", {"time": 0.0, "n": n})
    await asyncio.sleep(0.2)
    assert [line["n"] for line in lines(reader)] == [0, 1, 2]
    os.close(reader)
    os.close(writer)


@pytest.mark.anyio
async def test_close_writes_what_is_queued() -> None:
    reader, writer = os.pipe()
    log = AccessLog(asyncio.get_running_loop(), writer)
    log.write("said", {"time": 0.0, "n": 1})
    log.close()
    (line,) = lines(reader)
    assert line == {
        "timestamp": "1970-01-01T00:00:00+00:00",
        "level": "INFO",
        "service": "routeiq",
        "worker_id": os.getpid(),
        "message": "said",
        "time": 0.0,
        "n": 1,
    }
    os.close(reader)
    os.close(writer)


@pytest.mark.anyio
async def test_full_queue_drops_the_oldest_and_counts() -> None:
    reader, writer = os.pipe()
    log = AccessLog(asyncio.get_running_loop(), writer, limit=2)
    for n in range(5):
        log.write("said", {"time": 0.0, "n": n})
    assert log.dropped == 3
    log.close()
    assert [line["n"] for line in lines(reader)] == [3, 4]
    os.close(reader)
    os.close(writer)


@pytest.mark.anyio
async def test_closed_stdout_is_counted_and_harmless() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    log = AccessLog(asyncio.get_running_loop(), writer)
    log.write("said", {"time": 0.0, "n": 1})
    await asyncio.sleep(0.2)
    assert log.dropped == 1
