"""What a worker keeps for as long as it lives, whatever configuration is loaded into it: stores, books, loops."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper
from routeiq.access.limits import Limiter
from routeiq.access.principal import Rule
from routeiq.config.model import Config
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.gateway.breaking import cooldown_s, log_transition, threshold
from routeiq.gateway.chores import Chores
from routeiq.gateway.control import Control
from routeiq.gateway.jobs import Jobs
from routeiq.gateway.learning import LazyEncoder
from routeiq.ports import Clock
from routeiq.resilience.admission import Admission
from routeiq.resilience.breaker import Breakers
from routeiq.resilience.fleet import FleetBreakers
from routeiq.routing.affinity import Affinity
from routeiq.routing.load import LoadTracker
from routeiq.state.bundle import State
from routeiq.stores import Change
from routeiq.telemetry.decision_store import DecisionStore
from routeiq.telemetry.decisions import DecisionLog
from routeiq.types import JsonObject

if TYPE_CHECKING:
    from routeiq.gateway.app import Gateway
    from routeiq.gateway.reload import Reloader
    from routeiq.gateway.runtime import Runtime

logger = logging.getLogger("routeiq.gateway")
ENTITY_KINDS = ("key", "user", "team")
FLUSH_S = 2.0
"""For what is still queued to reach its store when the worker ends; a store that is down must not keep it."""
ANNOUNCE_S = 1.0


def worker_name() -> str:
    """An id that no other process has or had, so that its batches are told apart from all others."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"


class Process:
    """Made once per worker, after the fork. Opens nothing before `start`."""

    def __init__(self, config: Config, *, state: State, clock: Clock, worker: str) -> None:
        section, settings = config.routeiq, config.settings
        self.config = config
        self.clock = clock
        self.worker = worker
        self.state = state
        self.runtimes = 0
        self.load = LoadTracker(clock)
        self.admission = Admission(settings.max_concurrent_requests)
        self.breakers = Breakers(
            failure_threshold=threshold(config),
            open_s=cooldown_s(config),
            window_s=section.resilience.breaker_window_s,
            clock=clock,
            on_transition=log_transition,
        )
        self.fleet = FleetBreakers(
            breakers=self.breakers,
            board=state.board,
            clock=clock,
            worker=worker,
            open_s=cooldown_s(config),
            reread_s=section.state.reread_s,
        )
        self.decisions = DecisionLog(section.server.decision_log_size)
        self.decision_store = decision_store(config, state, clock)
        self.pepper = Pepper(state.documents, setting=settings.key_secret)
        self.keys = KeyCache(
            state.directory,
            pepper=self.pepper,
            clock=clock,
            size=section.state.key_cache_size,
            grace_s=section.state.key_grace_s,
            defaults=section.access.defaults,
        )
        self.limiter = Limiter(
            limits=state.limits,
            spending=state.spending,
            clock=clock,
            worker=worker,
            workers=self.workers,
            flush_s=section.state.flush_s,
            on_alert=self._alert,
        )
        for link, _ in state.links.values():
            link.on_up.append(self.limiter.store_is_back)
        affinity = section.affinity
        self.affinity = (
            Affinity(
                store=state.conversations, clock=clock, ttl_s=affinity.ttl_s, size=affinity.size
            )
            if affinity.enabled
            else None
        )
        self.jobs = Jobs(
            leases=state.leases, clock=clock, worker=worker, lease_s=section.state.lease_s
        )
        self.gateway: Gateway | None = None
        self.control: Control | None = None
        self._reloader: Reloader | None = None
        self._heard = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def hearing(self) -> bool:
        """Whether announcements of other workers arrive."""
        return self._heard and self.state.listening()

    def next_worker(self) -> str:
        """A name for the next runtime's own batches: it begins to count them from one."""
        self.runtimes += 1
        return f"{self.worker}-{self.runtimes}"

    async def start(self, gateway: Gateway, reloader: Reloader) -> None:
        """Open the stores and start the loops. A store that is down does not keep the worker from starting."""
        self.gateway, self._reloader = gateway, reloader
        self.control = Control(self, lambda: gateway.runtime)
        Chores(self, lambda: gateway.runtime.config.routeiq.experiments).assign()
        await self.state.start()
        await self._first_look()
        loops: list[Coroutine[Any, Any, None]] = [
            self.state.run(),
            self.state.events.listen(self._on_event, self._on_gap),
            self.control.run(),
            self.limiter.run(),
            self.fleet.run(),
            self.jobs.run(),
        ]
        if self.affinity is not None:
            loops.append(self.affinity.run())
        if self.decision_store is not None:
            loops.append(self.decision_store.run())
        if self.config.settings.hot_reload and self.config.files:
            loops.append(reloader.watch(self.config.settings.reload_interval))
        self._tasks = [asyncio.create_task(guarded(one)) for one in loops]

    async def _first_look(self) -> None:
        """Control state and open breakers before the first request, if the stores answer quickly."""
        if self.control is None:
            return
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                await self.control.refresh()
                await self.fleet.load()
        except (TimeoutError, StoreUnavailable):
            logger.warning("starting without control state: the store does not answer")

    async def close(self) -> None:
        """End the loops, flush what is queued, close the stores."""
        for task in (*self._tasks, *self._pending):
            task.cancel()  # jobs give their leases back
        await asyncio.gather(*self._tasks, *self._pending, return_exceptions=True)
        closing: list[Awaitable[object]] = [self.limiter.close()]
        if self.affinity is not None:
            closing.append(self.affinity.close())
        if self.decision_store is not None:
            closing.append(self.decision_store.close(FLUSH_S))
        try:
            async with asyncio.timeout(FLUSH_S):
                await asyncio.gather(*closing, return_exceptions=True)
                await self.state.roster.leave(self.worker)
        except (TimeoutError, StoreUnavailable):
            logger.warning("ending before everything was flushed", extra=self.unflushed())
        await self.state.close()

    def unflushed(self) -> dict[str, Any]:
        """What would be lost now."""
        store = self.decision_store
        return {"decisions": 0 if store is None else len(store)}

    async def reload(self, why: str) -> Config:
        """Load config.yaml again.

        Raises:
            ConfigError: it cannot be used; what ran before goes on.
        """
        if self._reloader is None:
            raise RuntimeError("the worker has not started")
        return await self._reloader.reload(why)

    def control_problems(self) -> dict[str, str]:
        """What of the control state could not be applied here."""
        return {} if self.control is None else self.control.problems

    async def control_changed(self, name: str, version: int) -> None:
        """A document was written here: apply it before the caller is answered, and tell the others."""
        await self.announce("control", {"name": name, "version": version})
        if self.control is not None:
            try:
                await self.control.refresh()
            except StoreUnavailable:  # it was written; the loop applies it once it can be read
                self.control.poke()

    async def announce(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker, if that works now; they read again by themselves if it does not."""
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                await self.state.events.publish(topic, payload)
        except (TimeoutError, StoreUnavailable):
            logger.warning("change not announced, it is read later", extra={"topic": topic})

    async def audit(self, change: Change) -> None:
        """Note a change that no store of ours made. What happened has happened: failing to note it is logged."""
        try:
            await self.state.audit.add(change)
        except StoreUnavailable:
            logger.exception(
                "audit row lost", extra={"action": change.action, "actor": change.actor}
            )

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run something beside the request path; it ends with the worker at the latest."""
        task = asyncio.get_running_loop().create_task(guarded(work))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _on_event(self, topic: str, payload: JsonObject) -> None:
        if topic == "keys":
            if payload.get("kind") in ENTITY_KINDS:
                self.keys.forget(payload["kind"], str(payload.get("id")), payload.get("generation"))
        elif topic == "breakers":
            await self.fleet.on_event(payload)
        elif topic == "reload" and self.gateway is not None:
            if payload.get("digest") != self.gateway.runtime.config.digest:
                self.reload_soon("another worker was told to")
        elif topic == "artifacts" and self.gateway is not None:
            self.spawn(self.gateway.runtime.activation.look())
        if topic in ("keys", "control") and self.control is not None:
            self.control.poke()

    async def _on_gap(self) -> None:
        """Announcements may have been missed: nothing that was remembered is taken on trust."""
        self._heard = True
        self.keys.forget_all()
        if self.control is not None:
            self.control.poke()
        await self.fleet.reread()

    def reload_soon(self, why: str) -> None:
        """Reload beside the requests, as a signal or another worker asks; what goes wrong is logged."""
        self.spawn(self._reload_quietly(why))

    async def _reload_quietly(self, why: str) -> None:
        try:
            await self.reload(why)
        except ConfigError:
            return  # logged and counted by the reloader

    async def prepare(self, runtime: Runtime) -> None:
        """Bring a runtime that was built for a reload to what the control state says, and to what was learned."""
        if self.gateway is not None:
            # On the loop: what is taken over must not change meanwhile. About a millisecond.
            runtime.router.take_over(self.gateway.runtime.router)
        if self.control is not None:
            await self.control.apply(runtime)
        self.keys.use(runtime.config.routeiq.access.defaults)

    def workers(self) -> int:
        """How many workers share the limits, as far as is known."""
        seen = 0 if self.control is None else self.control.workers
        return max(seen, self.config.settings.workers or 1)

    def status(self) -> JsonObject:
        """For the admin API."""
        store, affinity = self.decision_store, self.affinity
        return {
            "worker": self.worker,
            "stores": self.state.reports(),
            "hearing": self.hearing,
            "control": {} if self.control is None else self.control.status(),
            "reload": {} if self._reloader is None else self._reloader.status(),
            "fleet": self.fleet.status(),
            "limits": self.limiter.report(),
            "affinity": None if affinity is None else affinity.status(),
            "decision_store": None if store is None else store.report(),
        }

    def _alert(self, rule: Rule, share: float, used: int) -> None:
        """A budget crossed a share of itself: this is the one worker that says so."""
        details = {"kind": rule.kind, "per": rule.per, "share": share, "used": used}
        details["limit"] = rule.limit
        logger.warning("budget alert", extra={"scope": rule.scope, **details})
        action = "budgets.alert"
        change = Change(actor="routeiq", action=action, target=rule.scope, details=details)
        self.spawn(self.audit(change))


def decision_store(config: Config, state: State, clock: Clock) -> DecisionStore | None:
    """What writes decisions to the database, `None` where that is off."""
    section = config.routeiq.decisions
    if not section.store or state.decisions is None:
        return None
    return DecisionStore(
        state.decisions,
        queue=section.queue,
        flush_s=section.flush_s,
        clock=clock,
        features=section.features,
        text=section.text,
        encode=LazyEncoder() if section.features == "vector" else None,
    )


async def guarded(work: Awaitable[object]) -> None:
    """Fire-wall of a loop that nobody awaits: its defect is logged, not lost."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        logger.exception("a background task failed")
