"""Jobs that run once, however many workers there are: whoever has a job's lease does it (decision 3).

Each worker asks for the lease of each job; who does not get it skips, without waiting in line. The holder renews
it and works; when it dies, the lease runs out and another worker goes on within the lease time. A holder that
cannot renew stops its work before anybody else can begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from routeiq.exceptions import StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import Lease, Leases

logger = logging.getLogger("routeiq.jobs")
RENEWALS = 3
"""How often a lease is renewed within its time."""
MARGIN = 0.1
"""Share of the lease's time before its end at which work stops, if it could not be renewed."""
RETRY_S = 1.0
"""Pause after the store could not be asked."""
SOON_S = 0.05
"""How long after another worker's lease ends it is asked for."""
RELEASE_S = 2.0
"""For giving leases back at the end."""

Work = Callable[[Lease], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]


class Job:
    """One job on this worker. `safe_until` is when its work must have stopped, by the monotonic clock."""

    __slots__ = (
        "error",
        "every_s",
        "failures",
        "lease",
        "lost",
        "name",
        "runs",
        "safe_until",
        "skipped",
        "started_at",
        "work",
        "working",
    )

    def __init__(self, name: str, work: Work, every_s: float) -> None:
        self.name = name
        self.work = work
        self.every_s = every_s
        self.lease: Lease | None = None
        self.safe_until = 0.0
        self.working = False
        self.runs = self.failures = self.skipped = self.lost = 0
        self.error: str | None = None
        self.started_at: float | None = None


class Jobs:
    """Add jobs, then run `run` for as long as the worker lives; cancelling it gives the leases back."""

    def __init__(
        self,
        *,
        leases: Leases,
        clock: Clock,
        worker: str,
        lease_s: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        self._sleep = sleep
        self._jobs: dict[str, Job] = {}

    def add(self, name: str, work: Work, every_s: float) -> None:
        """Do `work` every `every_s` seconds on one worker; at once when the lease is got.

        `work` gets the lease it works under, whose `token` fences off a late predecessor. It may take longer than
        a lease; it must end soon when it is cancelled, and threads that it started must heed the token.
        """
        if name in self._jobs:
            raise ValueError(f"there is a job {name!r} already")
        self._jobs[name] = Job(name, work, every_s)

    async def run(self) -> None:
        """Do all jobs until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for job in self._jobs.values():
                    group.create_task(self._follow(job), name=f"job-{job.name}")
        finally:
            await self._release()

    def is_leader(self, name: str) -> bool:
        """Whether this worker does the job."""
        job = self._jobs.get(name)
        return job is not None and job.lease is not None

    def skipped(self, name: str) -> int:
        """How often another worker had the job when this one asked."""
        job = self._jobs.get(name)
        return 0 if job is None else job.skipped

    async def holder(self, name: str) -> Lease | None:
        """Who does the job now, by the store.

        Raises:
            StoreUnavailable: nobody knows.
        """
        return await self._leases.read(name)

    def status(self) -> dict[str, Any]:
        """Every job as this worker sees it."""
        return {job.name: self._job_status(job) for job in self._jobs.values()}

    def _job_status(self, job: Job) -> dict[str, Any]:
        left_s = job.safe_until - self._clock.monotonic()
        return {
            "is_leader": job.lease is not None,
            "token": None if job.lease is None else job.lease.token,
            "lease_left_s": None if job.lease is None else max(left_s, 0.0),
            "working": job.working,
            "every_s": job.every_s,
            "runs": job.runs,
            "failures": job.failures,
            "skipped": job.skipped,
            "lost": job.lost,
            "last_error": job.error,
            "last_started_at": None if job.started_at is None else iso(job.started_at),
        }

    async def _follow(self, job: Job) -> None:
        while True:
            try:
                lease = await self._acquire(job)
                if lease is None:
                    job.skipped += 1
                    pause_s = await self._until_free(job)
                else:
                    await self._hold(job, lease)
                    pause_s = SOON_S
            except StoreUnavailable:  # the link has said so
                pause_s = min(RETRY_S, self._lease_s / RENEWALS)
            await self._sleep(pause_s)

    async def _acquire(self, job: Job) -> Lease | None:
        """Take or renew. The time is counted from before the question: the store's began later."""
        asked = self._clock.monotonic()
        lease = await self._leases.acquire(job.name, self._worker, self._lease_s)
        if lease is not None:
            job.safe_until = asked + lease.left_s - MARGIN * self._lease_s
        return lease

    async def _until_free(self, job: Job) -> float:
        """How long to wait for another worker's lease: it ends in time for a takeover, or is renewed."""
        lease = await self._leases.read(job.name)
        left_s = 0.0 if lease is None else lease.left_s
        return min(self._lease_s / RENEWALS, left_s + SOON_S)

    async def _hold(self, job: Job, lease: Lease) -> None:
        """Work for as long as the lease can be renewed; returns when it is lost and the work has ended."""
        job.lease = lease
        logger.info("job taken", extra={"job": job.name, "token": lease.token})
        working = asyncio.create_task(self._work(job, lease), name=f"work-{job.name}")
        try:
            await self._renew(job, lease)
        finally:
            job.lease = None
            working.cancel()
            await asyncio.wait({working})
        job.lost += 1
        logger.warning("job lost", extra={"job": job.name, "token": lease.token})

    async def _renew(self, job: Job, lease: Lease) -> None:
        """Return once the lease is not ours any more, or may soon not be."""
        pause_s = self._lease_s / RENEWALS
        while (left_s := job.safe_until - self._clock.monotonic()) > 0:
            await self._sleep(min(pause_s, left_s))
            left_s = job.safe_until - self._clock.monotonic()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s):  # the work stops though the store hangs
                    renewed = await self._acquire(job)
            except (StoreUnavailable, TimeoutError):
                pause_s = min(RETRY_S, self._lease_s / RENEWALS)
                continue
            if renewed is None or renewed.token != lease.token:  # it was somebody else's meanwhile
                return
            pause_s = self._lease_s / RENEWALS

    async def _work(self, job: Job, lease: Lease) -> None:
        while True:
            started = self._clock.monotonic()
            await self._once(job, lease)
            await self._sleep(max(started + job.every_s - self._clock.monotonic(), 0.0))

    async def _once(self, job: Job, lease: Lease) -> None:
        job.started_at, job.working = self._clock.wall(), True
        try:
            await job.work(lease)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(job, error)  # something that the job waited for was cancelled, not the job
        except Exception as error:  # fire-wall: whatever a job meets, it is tried again next time
            self._failed(job, error)
        else:
            job.runs += 1
            job.error = None
        finally:
            job.working = False

    def _failed(self, job: Job, error: BaseException) -> None:
        job.failures += 1
        job.error = f"{type(error).__name__}: {error}"[:300]
        logger.error("job failed", extra={"job": job.name}, exc_info=error)

    async def _release(self) -> None:
        """Give back what we have, so that nobody waits for it; what cannot be given back runs out."""
        try:
            async with asyncio.timeout(RELEASE_S):
                for job in self._jobs.values():
                    await self._leases.release(job.name, self._worker)
        except (StoreUnavailable, TimeoutError) as error:
            logger.warning("leases were not given back", extra={"error": str(error)})


def iso(seconds: float) -> str:
    """A wall clock time for people and programs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
