"""The decision record: rendered once from the decision and the outcome, and the last ones kept in memory."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, NamedTuple

from routeiq.types import Attempt, Decision, Outcome, RoutingRequest


def decision_record(
    request: RoutingRequest, decision: Decision, outcome: Outcome, *, key_alias: str, time_s: float
) -> dict[str, Any]:
    """What the log line, the record and (later) the store say about one request.

    `time_s` is seconds since the epoch. The prompt itself is never part of it.
    """
    usage = outcome.usage
    return {
        "decision_id": decision.id,
        "request_id": request.id,
        "time": time_s,
        "key": key_alias,
        "operation": request.operation,
        "requested": decision.requested,
        "strategy": decision.strategy,
        "profile": decision.profile,
        "reason": decision.reason,
        "model": outcome.deployment.group if outcome.deployment else None,
        "deployment": outcome.deployment.id if outcome.deployment else None,
        "provider": outcome.deployment.provider if outcome.deployment else None,
        "stream": request.stream,
        "hint_followed": decision.hint_followed,
        "propensity": decision.propensity,
        "explored": decision.explored,
        "decision_ms": decision.duration_ms,
        "status": outcome.status,
        "outcome": outcome.kind,
        "error": outcome.error,
        "attempts": len(outcome.attempts),
        "duration_ms": outcome.latency_ms,
        "first_token_ms": outcome.first_token_ms,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "cached_input_tokens": usage.cached_input_tokens if usage else None,
        "cost_usd": outcome.cost_usd,
        "session_id": request.session_id,
        "tags": sorted(request.tags),
    }


def decision_details(decision: Decision) -> dict[str, Any]:
    """The candidates with their scores, and who was left out and why."""
    return {
        "candidates": [
            {
                "model": ranked.deployment.group,
                "deployment": ranked.deployment.id,
                "score": ranked.score,
                "utility": ranked.utility,
                "cost_usd": ranked.cost_usd,
                "latency_s": ranked.latency_s,
            }
            for ranked in decision.ranking
        ],
        "propensities": None if decision.propensities is None else dict(decision.propensities),
        "exclusions": [
            {"deployment": one.deployment_id, "reason": one.reason} for one in decision.exclusions
        ],
    }


def attempt_details(attempts: tuple[Attempt, ...]) -> list[dict[str, Any]]:
    """Each call upstream, in order."""
    return [
        {
            "deployment": one.deployment_id,
            "status": one.status,
            "duration_ms": one.duration_ms,
            "error": one.error,
        }
        for one in attempts
    ]


class Kept(NamedTuple):
    """One decision with all that belongs to it; `record` may still get its feedback."""

    record: dict[str, Any]
    request: RoutingRequest
    decision: Decision
    outcome: Outcome


class DecisionLog:
    """The last `size` decisions of this worker. Details are rendered when somebody asks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._records: deque[Kept] = deque(maxlen=size)

    def add(
        self,
        record: dict[str, Any],
        request: RoutingRequest,
        decision: Decision,
        outcome: Outcome,
    ) -> None:
        """Keep one, forget the oldest."""
        self._records.append(Kept(record, request, decision, outcome))

    def find(self, decision_id: str) -> Kept | None:
        """What is kept of one decision, newest first: feedback mostly follows soon."""
        newest_first = reversed(self._records)
        return next((one for one in newest_first if one.decision.id == decision_id), None)

    def get(self, decision_id: str) -> dict[str, Any] | None:
        """One record with candidates, exclusions and attempts."""
        kept = self.find(decision_id)
        if kept is None:
            return None
        return {
            **kept.record,
            **decision_details(kept.decision),
            "attempts_made": attempt_details(kept.outcome.attempts),
        }

    def latest(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first."""
        return [kept.record for kept in islice(reversed(self._records), limit)]
