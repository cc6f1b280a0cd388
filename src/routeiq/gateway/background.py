"""Work beside the requests: tasks that nobody awaits, behind fire-walls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger("routeiq.gateway")
ANEW_S = 1.0
"""Pause before a loop that failed begins anew."""
Loop = Callable[[], Awaitable[object]]


def keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, object]) -> None:
    """Begin `work`; it is in `tasks` until it is done."""
    task = asyncio.get_running_loop().create_task(guarded(work))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def kept(loop: Loop) -> None:
    """Fire-wall of a loop that the worker cannot do without: after a defect it begins anew."""
    while True:
        try:
            await loop()
        except asyncio.CancelledError:
            raise
        except Exception:
            logger.exception("a background loop failed and begins anew")
        else:
            return
        await asyncio.sleep(ANEW_S)


async def guarded(work: Awaitable[object]) -> None:
    """Fire-wall of work that nobody awaits: its defect is logged, not lost."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("a background task failed")
