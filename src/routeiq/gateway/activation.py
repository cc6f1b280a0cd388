"""Keeping learned strategies current: activated artifacts are taken, remote ones fetched, feedback is read.

One loop per worker. Everything that blocks runs in a thread; what fails is logged, shown in the admin API and
tried again, and what was served before goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

from routeiq.artifacts.store import ArtifactStore
from routeiq.artifacts.sync import Syncer
from routeiq.exceptions import ConfigError
from routeiq.gateway.feedback import Feedback
from routeiq.ports import Clock
from routeiq.routing.router import Router

logger = logging.getLogger("routeiq.gateway")
RETRY_S = 30.0
"""After this an artifact that was refused is tried again, although nothing changed: the disk may have."""


class Activation:
    """The loop and what it saw last."""

    def __init__(
        self,
        *,
        router: Router,
        feedback: Feedback,
        models_path: Path,
        syncer: Syncer | None,
        poll_s: float,
        clock: Clock,
    ) -> None:
        self._router = router
        self._feedback = feedback
        self._store = ArtifactStore(models_path)
        self._syncer = syncer
        self._poll_s = poll_s
        self._clock = clock
        self._stamp = self._look_at_store()
        self._looking = asyncio.Lock()
        self._stop = threading.Event()
        # The first look reloads: another process may have promoted after the router was loaded.
        self._retry_at: float | None = clock.monotonic()
        self.reloads = 0
        self.error: str | None = None
        self.feedback_error: str | None = None
        self.reloaded_at: float | None = None

    def status(self) -> dict[str, Any]:
        """What happened last, for the admin API."""
        return {
            "reloads": self.reloads,
            "reloaded_at": self.reloaded_at,
            "error": self.error,
            "feedback_learned": self._feedback.learned,
            "feedback_refused": self._feedback.refused,
            "feedback_error": self.feedback_error,
            "sync": None if self._syncer is None else self._syncer.status(),
        }

    async def run(self) -> None:
        """Look again and again until cancelled."""
        if self._syncer is not None:
            # A daemon: a download that hangs must not keep the process.
            work = partial(self._syncer.run, self._stop.wait)
            threading.Thread(target=work, name="artifact-sync", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(self._poll_s)
                await self.look()
        finally:
            self._stop.set()

    async def look(self) -> None:
        """Take newly activated artifacts and new feedback, one look at a time; raises nothing."""
        async with self._looking:
            await self._take_feedback()
            await self._take_artifacts()

    async def _take_feedback(self) -> None:
        """Fire-wall: a file that cannot be read must neither end the loop nor keep artifacts waiting."""
        try:
            await self._feedback.look()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if said != self.feedback_error:  # each second the same would flood the log
                logger.exception("feedback cannot be read")
            self.feedback_error = said
        else:
            self.feedback_error = None

    async def _take_artifacts(self) -> None:
        """Reload at first, where the store changed, and now and then where the last reload failed."""
        stamp = await asyncio.to_thread(self._look_at_store)
        due = self._retry_at is not None and self._clock.monotonic() >= self._retry_at
        if stamp != self._stamp or due:
            self._stamp = stamp
            await self.reload()

    async def reload(self) -> None:
        """Let the strategies take what is active; keep what is served where that cannot be used, and say why."""
        try:
            changed = await asyncio.to_thread(self._router.reload)
        except ConfigError as error:
            self._refused("; ".join(str(problem) for problem in error.problems))
            return
        except Exception as error:  # fire-wall: the loop must outlive whatever a strategy meets
            logger.exception("reloading failed")
            self._refused(f"{type(error).__name__}: {error}")
            return
        self.error, self._retry_at = None, None
        if changed:
            self.reloads += 1
            self.reloaded_at = self._clock.wall()
            logger.info("strategies reloaded", extra={"strategies": changed})

    def _refused(self, why: str) -> None:
        self._retry_at = self._clock.monotonic() + RETRY_S
        if why != self.error:
            logger.error("artifact refused, the old one stays", extra={"error": why})
        self.error = why

    def _look_at_store(self) -> object:
        """Changes whenever another artifact may be active."""
        return tuple(self._store.stamp(name) for name in self._router.strategy_names())
