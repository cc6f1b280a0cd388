"""What one worker of the fleet does for all: old rows, expired conversations, the guards of experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from routeiq.config.experiments import Experiment
from routeiq.experiments.guards import watch_guards
from routeiq.gateway.retention import prune
from routeiq.stores import Lease

if TYPE_CHECKING:
    from routeiq.gateway.process import Process

RETENTION_S = 3600.0
EXPIRED_S = 60.0
GUARDS_S = 10.0


class Chores:
    """The work of `Jobs`; `declared` gives the experiments of config.yaml as it is now."""

    def __init__(self, process: Process, declared: Callable[[], Mapping[str, Experiment]]) -> None:
        self._process = process
        self._declared = declared

    def assign(self) -> None:
        """Hand them to the process' jobs."""
        jobs = self._process.jobs
        if self._process.state.decisions is not None:
            jobs.add("retention", self.retention, every_s=RETENTION_S)
        jobs.add("expired", self.expired, every_s=EXPIRED_S)
        if self._process.config.settings.ab_testing_enabled:
            jobs.add("experiment-guards", self.guards, every_s=GUARDS_S)

    async def retention(self, lease: Lease) -> None:
        """Delete decisions (and audit rows, where that is asked for) that are old enough."""
        state, section = self._process.state, self._process.config.routeiq.decisions
        if state.decisions is None:
            return
        await prune(
            state.decisions,
            state.audit,
            clock=self._process.clock,
            retention_days=section.retention_days,
            audit_retention_days=section.audit_retention_days,
        )

    async def expired(self, lease: Lease) -> None:
        """Delete conversations and limits that have expired, where the store does not by itself."""
        await self._process.state.prune()

    async def guards(self, lease: Lease) -> None:
        """Stop variants that are shown to be worse than their guards allow."""
        process = self._process
        stops = await watch_guards(
            documents=process.state.documents,
            counters=process.state.counters,
            declared=self._declared,
            clock=process.clock,
        )
        if stops:
            await process.control_changed("experiments", 0)
