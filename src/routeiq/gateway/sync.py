"""`GET /routeiq/v1/sync`: who keeps the artifacts in step, and every other job that runs once (decision 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from routeiq.access.principal import Principal
from routeiq.exceptions import StoreUnavailable
from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond_json
from routeiq.gateway.jobs import Jobs, iso
from routeiq.ports import Clock, Header

PATH = "/routeiq/v1/sync"
ALIAS = "/llmrouter/config/sync/status"


class Guard(Protocol):
    """What is asked of the authenticator."""

    async def require(self, headers: Sequence[Header], permission: str) -> Principal:
        """The caller, who may do this."""
        ...


class SyncApi:
    """One handler under two names. `job` is the name of the job that fetches artifacts."""

    def __init__(
        self,
        *,
        authenticator: Guard,
        jobs: Jobs,
        activation_status: Callable[[], Mapping[str, Any]],
        clock: Clock,
        job: str = "artifacts",
    ) -> None:
        self._authenticator = authenticator
        self._jobs = jobs
        self._activation_status = activation_status
        self._clock = clock
        self._job = job

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {PATH: {"GET": self.status}, ALIAS: {"GET": self.status}}

    async def status(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What this worker knows, and the lease as the store has it now."""
        await self._authenticator.require(scope["headers"], "sync.read")
        sync = self._activation_status().get("sync")
        jobs = self._jobs.status()
        await respond_json(
            send,
            {
                "enabled": sync is not None,
                "running": sync is not None,
                "leader_election": await self._election(sync, self._job in jobs),
                "sync": sync,
                "jobs": jobs,
            },
        )

    async def _election(self, sync: Mapping[str, Any] | None, leased: bool) -> dict[str, Any]:
        """Where no lease is needed, one process of each host syncs: the one with the file lock."""
        if not leased:
            seen = sync or {}
            return {
                "enabled": False,
                "is_leader": bool(seen.get("leader", False)),
                "holder_id": None,
                "lease_expires_at": None,
                "skipped_sync_count": seen.get("skipped", 0),
            }
        reachable = True
        try:
            lease = await self._jobs.holder(self._job)
        except StoreUnavailable:
            lease, reachable = None, False
        return {
            "enabled": True,
            "is_leader": self._jobs.is_leader(self._job),
            "holder_id": None if lease is None else lease.holder,
            "lease_expires_at": None if lease is None else iso(self._clock.wall() + lease.left_s),
            "skipped_sync_count": self._jobs.skipped(self._job),
            "store_reachable": reachable,
        }
