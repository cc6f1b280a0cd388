"""`python -m bench.debug_gateway uvloop|asyncio serve …`: the gateway, noting callbacks from 20 ms on.

Only asyncio's debug mode (PYTHONASYNCIODEBUG=1) measures them; the chosen loop is the one the worker gets.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop

from routeiq.cli import main

from .stalls import NOTED_MS


def noting(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> Callable[[], asyncio.AbstractEventLoop]:
    """A factory of loops that complain early, and say that they can."""

    def factory() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.slow_callback_duration = NOTED_MS / 1000
        if loop.get_debug():
            sys.stderr.write("DEBUG-LOOP\n")
            sys.stderr.flush()
        return loop

    return factory


if __name__ == "__main__":
    chosen = sys.argv.pop(1)
    uvloop.new_event_loop = noting(  # type: ignore[assignment]
        uvloop.new_event_loop if chosen == "uvloop" else asyncio.new_event_loop
    )
    main()
