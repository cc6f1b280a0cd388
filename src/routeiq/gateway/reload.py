"""Hot reload: the configuration is read and built beside what runs, then swapped in; any error keeps the old.

Told by SIGHUP, the admin API, another worker, or a look at the files (ROUTEIQ_HOT_RELOAD). What only a start can
change is kept and said (`status`'s `reload.restart_for`): ports, workers, stores.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from routeiq.config.loader import load_config
from routeiq.config.model import Config
from routeiq.exceptions import ConfigError
from routeiq.gateway.app import Gateway
from routeiq.gateway.runtime import Runtime
from routeiq.ports import Clock

logger = logging.getLogger("routeiq.gateway")
SETTLE_S = 0.2
"""Files must be left alone for this long before they are read: editors and volumes write in steps."""
FIXED = (
    "ab_testing_enabled",
    "database_url",
    "drain_timeout_seconds",
    "host",
    "hot_reload",
    "key_secret",
    "log_level",
    "max_concurrent_requests",
    "port",
    "redis_url",
    "reload_interval",
    "workers",
)
"""Settings that are read once, when a worker starts."""
FIXED_SECTIONS = ("state", "affinity", "decisions")
"""Parts of `routeiq:` that are, too."""

Build = Callable[[Config], Runtime]
Prepare = Callable[[Runtime], Awaitable[None]]
"""Bring control state (the active strategy …) into a runtime before it is used."""


class Reloader:
    """Reloads one worker, one reload at a time."""

    def __init__(self, gateway: Gateway, *, build: Build, prepare: Prepare, clock: Clock) -> None:
        self._gateway = gateway
        self._build = build
        self._prepare = prepare
        self._clock = clock
        self._reloading = asyncio.Lock()
        self.reloads = 0
        self.failures = 0
        self.reloaded_at: float | None = None
        self.problems: list[str] = []
        self.restart_for: list[str] = []
        self._started = gateway.runtime.config

    def status(self) -> dict[str, Any]:
        """What happened last, for the admin API."""
        return {
            "reloads": self.reloads,
            "failures": self.failures,
            "reloaded_at": self.reloaded_at,
            "problems": self.problems,
            "restart_for": self.restart_for,
        }

    async def reload(self, why: str) -> Config:
        """Read and swap; the configuration that is in force now.

        Raises:
            ConfigError: it cannot be used; what ran before goes on.
        """
        async with self._reloading:
            try:
                config = await self._swap()
            except ConfigError as error:
                self._refused(why, [str(problem) for problem in error.problems])
                raise
            except Exception as error:  # a defect of ours, or of a strategy that is somebody else's
                self._refused(why, [f"{type(error).__name__}: {error}"[:300]])
                raise
            self.reloads += 1
            self.reloaded_at = self._clock.wall()
            self.problems = []
            self.restart_for = only_at_start(self._started, config)
            logger.info("configuration reloaded", extra={"why": why, "digest": config.digest[:12]})
            if self.restart_for:
                logger.warning("some changes need a restart", extra={"parts": self.restart_for})
            return config

    async def _swap(self) -> Config:
        config = await asyncio.to_thread(self._read)
        runtime = await asyncio.to_thread(self._build, config)
        try:
            await self._prepare(runtime)
            self._gateway.replace(runtime)
        except BaseException:
            await runtime.close()
            raise
        return config

    def _refused(self, why: str, problems: list[str]) -> None:
        self.failures += 1
        self.problems = problems
        logger.error(
            "reload refused, the old configuration stays",
            extra={"why": why, "problems": problems},
        )

    def _read(self) -> Config:
        """The configuration as it stands now, with what only a start can change as it was."""
        old = self._gateway.runtime.config
        path = None if old.source == "environment" else old.source
        return keep_fixed(load_config(path, os.environ), old)

    async def watch(self, interval_s: float) -> None:
        """Reload whenever a file of the configuration changed; runs until cancelled."""
        seen = await asyncio.to_thread(stamp, self._gateway.runtime.config.files)
        while True:
            await asyncio.sleep(interval_s)
            now = await asyncio.to_thread(stamp, self._gateway.runtime.config.files)
            if now == seen:
                continue
            await asyncio.sleep(SETTLE_S)
            seen = await asyncio.to_thread(stamp, self._gateway.runtime.config.files)
            if seen != now:  # still being written: look again
                seen = ()
                continue
            before = self._gateway.runtime.config.files
            try:
                config = await self.reload("a file changed")
            except ConfigError:  # logged and counted by `reload`; the next change is tried again
                continue
            except Exception:  # fire-wall: a defect in one configuration must not end the watch
                logger.exception("reloading failed")
                continue
            if config.files != before:
                seen = await asyncio.to_thread(stamp, config.files)


def keep_fixed(config: Config, old: Config) -> Config:
    """`config` with the settings that are read once as they were when the worker started."""
    kept = {name: getattr(old.settings, name) for name in FIXED}
    return replace(config, settings=config.settings.model_copy(update=kept))


def only_at_start(old: Config, new: Config) -> list[str]:
    """The parts of `routeiq:` that differ from those the worker runs with until it is started again."""
    changed = [
        f"routeiq.{name}"
        for name in FIXED_SECTIONS
        if getattr(old.routeiq, name) != getattr(new.routeiq, name)
    ]
    if old.routeiq.server.decision_log_size != new.routeiq.server.decision_log_size:
        changed.append("routeiq.server.decision_log_size")
    return changed


def stamp(files: Iterable[str]) -> tuple[tuple[str, int, int, int], ...]:
    """Changes whenever one of the files does; one that is missing (being replaced) counts too."""
    found = []
    for name in files:
        try:
            stat = os.stat(name)
        except OSError:
            found.append((name, 0, 0, 0))
        else:
            found.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)
