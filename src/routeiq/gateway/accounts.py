"""After a request: everything that is reported about it, from the decision and the outcome that happened."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from routeiq.experiments.live import Experiments
from routeiq.experiments.shadow import decide_beside
from routeiq.gateway.trace import Trace
from routeiq.routing.router import Router
from routeiq.telemetry.access_log import AccessLog
from routeiq.telemetry.decision_file import DecisionFile
from routeiq.telemetry.decisions import decision_record
from routeiq.types import Decision, Outcome, RoutingRequest

if TYPE_CHECKING:
    from routeiq.gateway.process import Process


class Accounts:
    """Turns a finished trace into everything that is reported about it."""

    def __init__(
        self,
        *,
        router: Router,
        process: Process,
        experiments: Experiments,
        access_log: AccessLog | None,
        decision_file: DecisionFile | None,
    ) -> None:
        self._router = router
        self._decisions = process.decisions
        self._decision_store = process.decision_store
        self._experiments = experiments
        self._clock = process.clock
        self._access_log = access_log
        self._decision_file = decision_file

    def observe(self, trace: Trace) -> None:
        """Tell the router, keep the record, write the line. Never raises: the answer has been sent."""
        decision, request = trace.decision, trace.request
        outcome = trace.outcome()
        if decision is None or request is None:
            if self._access_log is not None:
                self._access_log.write("request refused", self._refusal(trace))
            return
        record = self._record(trace, request, decision, outcome)
        self._router.observe(
            request, decision, outcome
        )  # after shadows: they must not know the outcome
        self._decisions.add(record, request, decision, outcome)
        if self._decision_store is not None:
            self._decision_store.add(record, request, decision, outcome)
        if self._decision_file is not None:
            self._decision_file.add(record, request, decision)
        if self._access_log is not None:
            self._access_log.write("routing decision completed", record)

    def _record(
        self, trace: Trace, request: RoutingRequest, decision: Decision, outcome: Outcome
    ) -> dict[str, Any]:
        principal = trace.principal
        record = decision_record(
            request,
            decision,
            outcome,
            key_alias=principal.alias if principal else "unknown",
            time_s=self._clock.wall(),
        )
        if principal is not None and principal.key_id is not None:
            record["key_id"] = principal.key_id
            record["user"] = principal.user
            record["team"] = principal.team
        if trace.trace_id:
            record["trace_id"] = trace.trace_id
        if trace.assignment is not None:
            record.update(trace.assignment.record())
            self._experiments.observed(trace.assignment, outcome)
        asked = trace.asked or request
        record["requested"] = asked.model  # a variant may have put another in its place
        if self._experiments.definitions:
            shadows = self._experiments.shadows(asked, **identity(trace))
            if shadows:
                tally, decide = self._experiments.tally, self._router.decide
                # Where the conversation is by now is the active strategy's doing, not the variant's choice.
                asked = replace(asked, stick=None)
                record["shadow"] = decide_beside(shadows, asked, decision, decide, tally)
        return record

    def _refusal(self, trace: Trace) -> dict[str, Any]:
        return {
            "request_id": trace.request_id,
            "time": self._clock.wall(),
            "key": trace.principal.alias if trace.principal else None,
            "operation": trace.operation,
            "status": trace.status,
            "error": trace.error,
            "duration_ms": trace.elapsed_ms(),
        }


def identity(trace: Trace) -> dict[str, str | None]:
    """Who asks, as experiments tell subjects apart."""
    principal = trace.principal
    if principal is None:
        return {}
    return {"key_id": principal.key_id, "user": principal.user, "team": principal.team}
