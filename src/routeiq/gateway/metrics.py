"""`GET /metrics`: what this worker knows of its stores and queues, in Prometheus' text format. No I/O.

With several workers a scrape meets any one of them; the state of stores is the same seen from each, the queues are
its own. The catalogue of all metrics comes with telemetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from routeiq.gateway.asgi import Receive, Routes, Scope, Send, respond
from routeiq.ports import Header

if TYPE_CHECKING:
    from routeiq.gateway.process import Process

TEXT: Header = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
Sample = tuple[str, str, str, dict[str, float]]
"""Name, kind, help, and values by labels as they are written (`''` for none)."""


class Metrics:
    """One handler; not authenticated, as scrapers expect: nothing here names hosts, keys or prompts."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def routes(self) -> Routes:
        """Path to method to handler."""
        return {"/metrics": {"GET": self.get}}

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The samples as they are now."""
        await respond(send, 200, render(samples(self._process)), [TEXT])


def samples(process: Process) -> Iterator[Sample]:
    """What is exported."""
    reports = process.state.reports()
    up = {f'{{store="{name}"}}': float(one["state"] == "up") for name, one in reports.items()}
    outages = {f'{{store="{name}"}}': float(one["outages"]) for name, one in reports.items()}
    yield "routeiq_store_up", "gauge", "Whether a store can be reached.", up
    yield "routeiq_store_outages_total", "counter", "Outages since the worker started.", outages
    hearing = {"": float(process.hearing)}
    yield "routeiq_announcements_heard", "gauge", "Whether changes are heard at once.", hearing
    store = process.decision_store
    if store is not None:
        report = store.report()
        waiting, dropped = {"": float(report["waiting"])}, {"": float(report["dropped"])}
        yield (
            "routeiq_decision_log_waiting",
            "gauge",
            "Records that wait for the database.",
            waiting,
        )
        yield "routeiq_decision_log_dropped_total", "counter", "Records that were lost.", dropped


def render(found: Iterator[Sample]) -> bytes:
    """Prometheus' text format."""
    lines = []
    for name, kind, text, values in found:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value:.17g}" for labels, value in values.items()]
    return ("\n".join(lines) + "\n").encode()
