"""Changes to the control document: pure, so that compare-and-set may repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from routeiq.config.experiments import Experiment
from routeiq.exceptions import Conflict, NotFound
from routeiq.types import JsonObject

from .definitions import Definition, as_json, changed_meaning
from .schedule import Schedule


def absent(name: str) -> NotFound:
    """There is no such experiment."""
    return NotFound(f"No experiment {name[:64]!r}.")


class Editor:
    """One change of the document. `definitions` are those in force before, by `definitions.merge`.

    Every method returns the new body and leaves the old one alone.
    """

    def __init__(
        self, body: JsonObject | None, definitions: Mapping[str, Definition], now: float
    ) -> None:
        self._body: JsonObject = deepcopy(body) if body else {}
        self._definitions = definitions
        self._now = now

    def create(self, name: str, experiment: Experiment) -> JsonObject:
        """Add one.

        Raises:
            Conflict: the name is taken.
        """
        if name in self._definitions or name in self._part("definitions"):
            raise Conflict(f"There is an experiment {name!r} already.", param="name")
        self._part("definitions")[name] = as_json(self._dated(experiment, None))
        return self._afresh(name)

    def replace(self, name: str, experiment: Experiment) -> JsonObject:
        """Define one anew.

        Raises:
            NotFound: there is none.
            Conflict: it stands in config.yaml, or what its variants mean would change while it runs.
        """
        before = self._own(name)
        after = self._dated(experiment, before.experiment)
        running = Schedule(before.experiment).state(self._now) == "running"
        if running and changed_meaning(before.experiment, after):
            raise Conflict(
                f"Experiment {name!r} runs: what its variants do, who takes part as one and which is the control "
                "cannot change under it. Stop it, change it, and reset its figures."
            )
        self._part("definitions")[name] = as_json(after)
        stopped = self._part("stopped").get(name, {})
        for gone in stopped.keys() - after.variants.keys():
            del stopped[gone]
        return self._body

    def delete(self, name: str) -> JsonObject:
        """Remove one.

        Raises:
            NotFound: there is none.
            Conflict: it stands in config.yaml.
        """
        if name not in self._part("definitions"):  # one that cannot be used may be deleted too
            self._own(name)
        del self._part("definitions")[name]
        return self._afresh(name)

    def start(self, name: str) -> JsonObject:
        """Let one run from now on; one that was stopped goes on where it was.

        Raises:
            NotFound: there is none.
            Conflict: its time is over.
        """
        experiment = self._known(name).experiment
        schedule = Schedule(experiment)
        if self._now >= schedule.end:
            raise Conflict(f"Experiment {name!r} has ended: give it another `end` first.")
        change: dict[str, Any] = {"enabled": True}
        if experiment.start is None or schedule.start > self._now:
            change["start"] = self._date()
        return self._switch(name, change)

    def stop(self, name: str) -> JsonObject:
        """Assign nobody any more. What was counted stays.

        Raises:
            NotFound: there is none.
        """
        self._known(name)
        return self._switch(name, {"enabled": False})

    def reset(self, name: str) -> JsonObject:
        """Count anew, and let variants run again that a guard stopped. The counters are the caller's to delete.

        Raises:
            NotFound: there is none.
        """
        self._known(name)
        return self._afresh(name)

    def _switch(self, name: str, change: dict[str, Any]) -> JsonObject:
        own = self._known(name).source == "api"
        part = self._part("definitions" if own else "overrides")
        part[name] = {**part.get(name, {}), **change}
        return self._body

    def _afresh(self, name: str) -> JsonObject:
        self._part("stopped").pop(name, None)
        resets = self._part("resets")
        resets[name] = resets.get(name, 0) + 1
        return self._body

    def _dated(self, experiment: Experiment, before: Experiment | None) -> Experiment:
        """With a start, not before now unless it was: nobody takes another's place in a layer afterwards."""
        kept = before.start if before is not None else None
        start = experiment.start or kept
        if start is None or (start != kept and start.timestamp() < self._now):
            start = datetime.fromtimestamp(self._now, UTC)
        return experiment.model_copy(update={"start": start})

    def _date(self) -> str:
        return datetime.fromtimestamp(self._now, UTC).isoformat()

    def _known(self, name: str) -> Definition:
        found = self._definitions.get(name)
        if found is None:
            raise absent(name)
        return found

    def _own(self, name: str) -> Definition:
        found = self._known(name)
        if found.source == "config":
            raise Conflict(
                f"Experiment {name!r} stands in config.yaml: change it there. Here it can be started, stopped "
                "and reset."
            )
        return found

    def _part(self, name: str) -> dict[str, Any]:
        part = self._body.setdefault(name, {})
        if not isinstance(part, dict):
            part = self._body[name] = {}
        return part
