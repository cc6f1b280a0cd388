"""What a worker keeps for as long as it lives, whatever configuration is loaded into it: stores, books, loops."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from routeiq.access.key_cache import KeyCache
from routeiq.access.keys import Pepper
from routeiq.access.limits import Limiter
from routeiq.access.principal import Rule
from routeiq.config.model import Config
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.gateway.background import Loop, keep, kept
from routeiq.gateway.breaking import cooldown_s, log_transition, threshold
from routeiq.gateway.chores import Chores
from routeiq.gateway.control import Control
from routeiq.gateway.jobs import Jobs
from routeiq.gateway.learning import DecisionFiles, LazyEncoder
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
TELL_AGAIN_S = 0.25
"""Pause before what could not be announced is tried again."""
MOST_UNTOLD = 1_000
"""Announcements that wait for that; what is dropped then is read again later."""
FIRST_LOOK_S = 5.0
"""For control state to be read and its strategy to be loaded, before the first request."""


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
        self.decision_files = DecisionFiles(clock)
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
        self._untold: deque[tuple[str, JsonObject]] = deque(maxlen=MOST_UNTOLD)
        self._tasks: list[asyncio.Task[None]] = []
        self._pending: set[asyncio.Task[None]] = set()
        self._notes: set[asyncio.Task[None]] = set()  # audit rows on their way

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
        loops: list[Loop] = [
            self.state.run,
            partial(self.state.events.listen, self._on_event, self._on_gap),
            self.control.run,
            self.limiter.run,
            self.fleet.run,
            self.jobs.run,
        ]
        if self.affinity is not None:
            loops.append(self.affinity.run)
        if self.decision_store is not None:
            loops.append(self.decision_store.run)
        if self.config.settings.hot_reload and self.config.files:
            loops.append(partial(reloader.watch, self.config.settings.reload_interval))
        self._tasks = [asyncio.create_task(kept(one)) for one in loops]

    async def _first_look(self) -> None:
        """Control state and open breakers before the first request, if the stores answer quickly."""
        if self.control is None:
            return
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.control.refresh()
                await self.fleet.load()
        except (TimeoutError, StoreUnavailable):
            logger.warning("starting without control state: the store does not answer")
        except Exception:  # fire-wall: what is stored must not keep workers from starting
            logger.exception("starting without control state")

    async def halt(self) -> None:
        """End the loops and reloads; jobs give their leases back."""
        ending = [*self._tasks, *self._pending]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def close(self) -> None:
        """End the loops, flush what is queued, close the stores."""
        await self.halt()
        closing: list[Awaitable[None]] = [self.limiter.close()]
        if self.affinity is not None:
            closing.append(self.affinity.close())
        if self.decision_store is not None:
            closing.append(self.decision_store.close(FLUSH_S))
        try:
            async with asyncio.timeout(FLUSH_S):
                for failed in await asyncio.gather(*closing, return_exceptions=True):
                    if failed is not None:
                        logger.error("not everything was flushed", exc_info=failed)
                await asyncio.gather(*self._notes)
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
            except Exception:  # fire-wall: the caller must not be told that nothing was written
                logger.exception("control state cannot be applied", extra={"document": name})

    async def announce(self, topic: str, payload: JsonObject) -> None:
        """Tell every worker, now or as soon as that works; until then they read again by themselves."""
        if await self._told(topic, payload):
            return
        logger.warning("change not announced, it is read later", extra={"topic": topic})
        self._untold.append((topic, payload))
        if len(self._untold) == 1:
            self.spawn(self._tell_later())

    async def _told(self, topic: str, payload: JsonObject) -> bool:
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                await self.state.events.publish(topic, payload)
        except (TimeoutError, StoreUnavailable):
            return False
        return True

    async def _tell_later(self) -> None:
        """Others may hear again before this worker can speak again, and then do not look for themselves."""
        while self._untold:
            await asyncio.sleep(TELL_AGAIN_S)
            while self._untold and await self._told(*self._untold[0]):
                self._untold.popleft()

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
        keep(self._pending, work)

    async def _on_event(self, topic: str, payload: JsonObject) -> None:
        """Fire-wall: another version of us may say things that we do not understand, and we must go on hearing."""
        try:
            await self._follow(topic, payload)
        except Exception:
            logger.exception("an event could not be followed up", extra={"topic": topic})

    async def _follow(self, topic: str, payload: JsonObject) -> None:
        if topic == "keys":
            if payload.get("kind") in ENTITY_KINDS:
                self.keys.forget(payload["kind"], str(payload.get("id")), payload.get("generation"))
        elif topic == "breakers":
            await self.fleet.on_event(payload)
        elif topic == "reload" and self.gateway is not None:
            mine = payload.get("worker") == self.worker
            if not mine and payload.get("digest") != self.gateway.runtime.config.digest:
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
        if self.control is not None:
            await self.control.apply(runtime)
            self.control.poke()  # to report what is in force soon
        if self.gateway is not None:
            # Last, when all strategies are there, and on the loop: what is taken over must not change until the
            # runtime is swapped in. About a millisecond.
            runtime.router.take_over(self.gateway.runtime.router)
        config = runtime.config
        self.keys.use(config.routeiq.access.defaults)
        open_s, window_s = cooldown_s(config), config.routeiq.resilience.breaker_window_s
        self.breakers.use(failure_threshold=threshold(config), open_s=open_s, window_s=window_s)
        self.fleet.use(open_s)

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
        keep(self._notes, self.audit(change))


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
