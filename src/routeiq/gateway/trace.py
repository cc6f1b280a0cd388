"""What happens to one request, noted while it happens; the `Outcome` is made from it and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from routeiq.access.limits import Ticket
from routeiq.access.principal import Principal
from routeiq.exceptions import NoHealthyDeployment
from routeiq.experiments.running import Assignment
from routeiq.ports import Clock, Header
from routeiq.types import (
    Attempt,
    Decision,
    Deployment,
    Operation,
    Outcome,
    OutcomeKind,
    RoutingRequest,
    Usage,
)


class Trace:
    """Mutable notes on one request; lives as long as the request does.

    `phases` are the seconds of authentication, parsing and routing. `upstream_ms` is time spent
    waiting for providers, so that the gateway's own share can be told.
    """

    __slots__ = (
        "answered_by",
        "asked",
        "assignment",
        "attempts",
        "client_headers",
        "clock",
        "conversation",
        "cost_usd",
        "decision",
        "error",
        "explain",
        "first_token_ms",
        "kind",
        "limit_headers",
        "operation",
        "phases",
        "principal",
        "rejected",
        "request",
        "request_id",
        "response_id",
        "started",
        "status",
        "ticket",
        "trace_id",
        "tried",
        "upstream_ms",
        "usage",
    )

    def __init__(self, *, request_id: str, operation: Operation, clock: Clock) -> None:
        self.request_id = request_id
        self.trace_id: str | None = None
        self.client_headers: tuple[Header, ...] = ()  # those that reach providers
        self.operation: Operation = operation
        self.clock = clock
        self.started = clock.monotonic()
        self.phases = (0.0, 0.0, 0.0)
        self.principal: Principal | None = None
        self.request: RoutingRequest | None = None
        self.asked: RoutingRequest | None = None  # without what its experiment changed
        self.decision: Decision | None = None
        self.attempts: list[Attempt] = []
        self.tried: set[str] = set()
        self.upstream_ms = 0.0
        self.answered_by: Deployment | None = None
        self.status = 500
        self.kind: OutcomeKind = "error"
        self.error: str | None = None
        self.first_token_ms: float | None = None
        self.usage: Usage | None = None
        self.cost_usd: float | None = None
        self.explain = False  # the client asked for scores and propensity in the headers
        self.rejected = 0  # answers that the strategy did not accept
        self.ticket: Ticket | None = None  # what was reserved of the caller's limits
        self.limit_headers: Sequence[Header] = ()
        self.assignment: Assignment | None = None  # the experiment that this request is in
        self.conversation: str | None = None
        self.response_id: str | None = None  # of an answer that later requests may name

    def charge(self, cost_usd: float | None) -> None:
        """Add the cost of one call, where it is known: a request may take several."""
        if cost_usd is not None:
            self.cost_usd = cost_usd + (self.cost_usd or 0.0)

    def elapsed_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return (self.clock.monotonic() - self.started) * 1e3

    def client_left(self) -> None:
        """The client is gone; nginx's 499 says so in logs, nobody receives it."""
        self.kind, self.status, self.error = "client_disconnected", 499, "client_disconnected"

    def require_decision(self) -> Decision:
        """The decision; calling this before routing is a mistake of ours that must be loud."""
        if self.decision is None:
            raise NoHealthyDeployment("The request was not routed.")
        return self.decision

    def outcome(self) -> Outcome:
        """The facts, frozen."""
        return Outcome(
            kind=self.kind,
            status=self.status,
            deployment=self.answered_by,
            attempts=tuple(self.attempts),
            latency_ms=self.elapsed_ms(),
            first_token_ms=self.first_token_ms,
            usage=self.usage,
            cost_usd=self.cost_usd,
            error=self.error,
        )
