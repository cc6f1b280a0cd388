"""The worker's view of experiments: assign, count, and take over what control state says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from routeiq.config.experiments import Experiment
from routeiq.exceptions import Problem, StoreUnavailable
from routeiq.ports import Clock
from routeiq.stores import NANO, Counters
from routeiq.types import JsonObject, Outcome, RoutingRequest

from .definitions import Definition, Names, declared, merge
from .exposure import Tally
from .running import Assignment, CompiledSet, Running, epoch_of

_log = logging.getLogger(__name__)
MEMORY = 50_000
"""Subjects of an experiment that a worker remembers to have counted; more are not counted as drawn."""
_MICRO = 1e6


class Experiments:
    """Which variant a request gets, and exact counts of what came of it.

    Args:
        experiments: those of config.yaml.
        names: what variants may name.
        counters: where counts are kept.
        clock: the wall clock says which experiments run.
        worker: this process' id; its batches are told apart from those of others by it.
        enabled: off, nobody is assigned.

    Raises:
        ConfigError: an experiment of config.yaml cannot be used.
    """

    def __init__(
        self,
        experiments: Mapping[str, Experiment],
        *,
        names: Names,
        counters: Counters,
        clock: Clock,
        worker: str,
        enabled: bool = True,
    ) -> None:
        self._declared = dict(experiments)
        self._names = names
        self._wall = clock.wall
        self._enabled = enabled
        self.tally = Tally(counters, worker)
        self.problems: tuple[Problem, ...] = ()
        self._seen: dict[tuple[str, str], set[int]] = {}
        self._compiled = CompiledSet(self._kept(declared(experiments, names)))

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What is in force."""
        return self._compiled.definitions

    def _kept(self, definitions: dict[str, Definition]) -> dict[str, Definition]:
        return definitions if self._enabled else {}

    def strategies(self, body: JsonObject | None) -> set[str]:
        """The strategies that variants would name after `swap(body)`: they must be there before it."""
        definitions = self._kept(merge(self._declared, body, self._names)[0])
        return {
            variant.strategy
            for one in definitions.values()
            for variant in one.experiment.variants.values()
            if variant.strategy is not None
        }

    def swap(self, body: JsonObject | None) -> None:
        """Take over the control document. What cannot be used of it is logged and left out."""
        definitions, problems = merge(self._declared, body, self._names)
        for problem in problems:
            _log.warning("an experiment cannot be used", extra={"problem": str(problem)})
        self.problems = tuple(problems)
        self._compiled = CompiledSet(self._kept(definitions))
        epochs = {(name, epoch_of(one)) for name, one in definitions.items()}
        self._seen = {key: seen for key, seen in self._seen.items() if key in epochs}

    def assign(
        self,
        request: RoutingRequest,
        *,
        key_id: str | None = None,
        user: str | None = None,
        team: str | None = None,
    ) -> Assignment | None:
        """The variant under which this request is to be decided.

        Of several experiments that it could take part in, the one that began first has it; it is kept out of the
        others whatever its variant, so that none of them is disturbed by another's.
        """
        compiled = self._compiled
        candidates = compiled.live.get(request.model)
        if candidates is None:
            candidates = compiled.match(request.model)[0]
        if not candidates:
            return None
        now = self._wall()
        for index, one in enumerate(candidates, 1):
            found = one.subject(request, now, key_id, user, team)
            if found is not None:
                also: tuple[str, ...] = ()
                if index < len(candidates):
                    others = candidates[index:]
                    also = tuple(
                        [o.name for o in others if o.subject(request, now, key_id, user, team)]
                    )
                return one.assign(*found, also)
        return None

    def shadows(
        self,
        request: RoutingRequest,
        *,
        key_id: str | None = None,
        user: str | None = None,
        team: str | None = None,
    ) -> list[Running]:
        """The shadow experiments that want to decide about this request too; for `shadow.decide_beside`."""
        if not self._compiled.any_shadow:
            return []
        candidates = self._compiled.match(request.model)[1]
        now = self._wall()
        return [o for o in candidates if o.subject(request, now, key_id, user, team) is not None]

    def exposed(self, assignment: Assignment) -> None:
        """The request is carried out now under its variant. Once per request; not for dry runs and refusals."""
        arm, tally = assignment.arm, self.tally
        name = arm.experiment
        tally.add(name, f"{arm.label}:requests")
        seen = self._seen.get((name, arm.epoch))
        if seen is None:
            seen = self._seen[name, arm.epoch] = set()
            tally.add(name, f"workers@{arm.epoch}")
        if assignment.kind != "request":
            if assignment.unit in seen or len(seen) >= MEMORY:
                return
            seen.add(assignment.unit)
        tally.add(name, f"{arm.assigned}:units@{arm.epoch}")

    def observed(self, assignment: Assignment, outcome: Outcome) -> None:
        """How an exposed request ended. Once per request.

        A client that went away says nothing about errors and latency; what the request cost counts.
        """
        experiment, label, tally = assignment.arm.experiment, assignment.arm.label, self.tally
        if outcome.cost_usd is not None:
            tally.measure(experiment, label, "cost", round(outcome.cost_usd * NANO))
        if outcome.kind == "client_disconnected":
            return
        tally.add(experiment, f"{label}:ended")
        if outcome.kind != "success":
            tally.add(experiment, f"{label}:errors")
            return
        tally.measure(experiment, label, "latency", round(outcome.latency_ms * 1e3))
        if outcome.first_token_ms is not None:
            tally.measure(experiment, label, "first_token", round(outcome.first_token_ms * 1e3))

    def rated(self, experiment: str, label: str, score: float, before: float | None = None) -> None:
        """Feedback on an exposed request: `experiment` and `label` as in its record (`Assignment.record`).

        `before` is the score that this one replaces. Feedback may come to another worker than the request.
        """
        if experiment not in self._compiled.definitions:
            return  # it was deleted meanwhile, and its counters with it
        number = round(score * _MICRO)
        if before is None:
            self.tally.measure(experiment, label, "quality", number)
        else:
            self.tally.correct(experiment, label, "quality", number, round(before * _MICRO))

    async def flush(self) -> bool:
        """Write counts; whether the store took them. What it did not take is kept."""
        try:
            await self.tally.flush()
        except StoreUnavailable as error:
            _log.debug("counts of experiments are kept", extra={"error": str(error)})
            return False
        return True

    async def run(self, flush_s: float) -> None:
        """Write counts again and again until cancelled."""
        while True:
            await asyncio.sleep(flush_s)
            await self.flush()

    async def close(self) -> None:
        """Write what is left."""
        lost = list(await self.tally.close())
        if lost:
            _log.error("counts of experiments are lost: the store is down", extra={"names": lost})
