"""What must be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the list. `limit` is an upper bound of `value`, a lower one where `at_least`."""

    what: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def row(result: Result, scenario: str, target: str, connections: int = 0) -> dict[str, Any] | None:
    """A measured row; `connections` 0 stands for a fixed rate."""
    for one in result["rows"]:
        if (one["scenario"], one["target"], one["connections"]) == (scenario, target, connections):
            found: dict[str, Any] = one
            return found
    return None


def judge(result: Result) -> list[Verdict]:
    """Every bound that can be judged from what was measured."""
    return [*_processor(result), *_others(result), *_latency(result), *_process(result)]


def _processor(result: Result) -> Iterator[Verdict]:
    for scenario, words, limit in (
        ("plain", "CPU per chat completion, 32 connections", 0.25),
        ("stream", "CPU per stream of 20 chunks, 32 connections", 0.45),
    ):
        if one := row(result, scenario, "routeiq", 32):
            yield Verdict(what=words, value=one["cpu_ms"], limit=limit, unit="ms")


def _others(result: Result) -> Iterator[Verdict]:
    for scenario, words in (("plain", "chat completion"), ("stream", "stream")):
        own = row(result, scenario, "routeiq", 32)
        for name, times in (("litellm", 40), ("portkey", 3), ("tensorzero", 1)):
            other = row(result, scenario, name, 32)
            if own and other and not other["errors"] and (scenario == "plain" or name == "litellm"):
                yield Verdict(
                    what=f"CPU per {words}: {result['columns'][name]} against ours",
                    value=other["cpu_ms"] / own["cpu_ms"],
                    limit=times,
                    unit="times",
                    at_least=True,
                )


def _latency(result: Result) -> Iterator[Verdict]:
    if slow := row(result, "slow", "routeiq"):
        added = slow["added_p99_ms"]
        words = "added p99, 100 ms provider, 100 requests/s"
        yield Verdict(what=f"{words} (required)", value=added, limit=5, unit="ms")
        yield Verdict(what=f"{words} (target)", value=added, limit=1.5, unit="ms")
    if spaced := row(result, "spaced", "routeiq"):
        yield Verdict(
            what="added time to first event, p50",
            value=spaced["added_first_p50_ms"],
            limit=1,
            unit="ms",
        )
        yield Verdict(what="events held back", value=spaced["merged"], limit=0, unit="")
    errors = sum(one["errors"] for one in result["rows"] if one["target"] == "routeiq")
    yield Verdict(what="failed requests", value=errors, limit=0, unit="")


def _process(result: Result) -> Iterator[Verdict]:
    startup, decision = result["startup"], result["decision"]
    yield Verdict(
        what="start to first answered request", value=startup["first_answer_s"], limit=1.5, unit="s"
    )
    by_count = {one["workers"]: one for one in result["memory"]}
    if 1 in by_count:
        yield Verdict(what="RSS of a worker", value=by_count[1]["rss_mb"], limit=90, unit="MB")
    if 1 in by_count and 4 in by_count:
        grown = (by_count[4]["total_pss_mb"] - by_count[1]["total_pss_mb"]) / 3
        yield Verdict(
            what="each further worker (PSS of the tree)", value=grown, limit=25, unit="MB"
        )
    yield Verdict(
        what=f"decision, {decision['auto_candidates']} candidates",
        value=decision["auto_us"],
        limit=60,
        unit="µs",
    )
