"""A slow first token: the next candidate is asked too, if the operator wants that."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.tools import (
    RawStream,
    admin,
    ask,
    breaker,
    calls_to,
    complaints,
    configure,
    wait_idle,
)
from tests.support.processes import SimulatorProcess, start_gateway, wait_until

HEDGED = {"hedge_after_s": 0.2}


def left_alone(sim: SimulatorProcess, model: str) -> bool:
    """Whether the call to `model` was given up."""
    calls = [one for one in sim.requests() if one["json"]["model"] == model]
    return bool(calls) and all(one["disconnected"] for one in calls)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("slow", ["hang", "ttft_ms=20000"])
def test_the_second_answers_and_the_first_is_let_go(
    tmp_path: Path, sim: SimulatorProcess, stream: bool, slow: str
) -> None:
    with start_gateway(configure(tmp_path, sim, resilience=HEDGED)) as gateway:
        sim.behave(slow, "sim-small")
        answer = ask(gateway, stream=stream, timeout=10.0)
        assert answer.status == 200
        assert answer.headers["x-routeiq-deployment"] == "second"
        assert not stream or answer.events()[-1] == "[DONE]"
        wait_until(lambda: left_alone(sim, "sim-small"), "the loser is cancelled", 3.0)
        wait_idle(gateway)
        assert breaker(gateway, "first") == "closed"
        assert not complaints(gateway)


def test_a_quick_first_answer_is_not_hedged(tmp_path: Path, sim: SimulatorProcess) -> None:
    path = configure(tmp_path, sim, resilience={"hedge_after_s": 15.0})
    with start_gateway(path) as gateway:
        sim.behave("delay_ms=300", "sim-small")
        assert ask(gateway).headers["x-routeiq-deployment"] == "first"
        assert calls_to(sim, "sim-large") == 0


def test_the_first_may_still_win(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(configure(tmp_path, sim, resilience=HEDGED)) as gateway:
        sim.behave("delay_ms=1500", "sim-small")
        sim.behave("hang", "sim-large")
        assert ask(gateway).headers["x-routeiq-deployment"] == "first"
        wait_until(lambda: left_alone(sim, "sim-large"), "the loser is cancelled", 3.0)
        wait_idle(gateway)


def test_a_hedge_that_fails_leaves_the_first_running(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(configure(tmp_path, sim, resilience=HEDGED)) as gateway:
        sim.behave("delay_ms=1500", "sim-small")
        sim.behave("status=500", "sim-large")
        assert ask(gateway).headers["x-routeiq-deployment"] == "first"
        assert calls_to(sim, "sim-large") == 1


def test_both_are_let_go_when_the_client_leaves(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(configure(tmp_path, sim, resilience=HEDGED)) as gateway:
        sim.behave("hang")
        with RawStream(gateway):
            wait_until(lambda: len(sim.requests()) == 2, "both are asked")
        wait_until(lambda: left_alone(sim, "sim-small"), "the first is cancelled", 3.0)
        wait_until(lambda: left_alone(sim, "sim-large"), "the second is cancelled", 3.0)
        wait_idle(gateway)
        assert {one["breaker"] for one in admin(gateway, "models")["data"]} == {"closed"}
        assert not complaints(gateway)


def test_nothing_is_hedged_unless_asked_for(tmp_path: Path, sim: SimulatorProcess) -> None:
    with start_gateway(configure(tmp_path, sim)) as gateway:
        sim.behave("delay_ms=1500", "sim-small")
        assert ask(gateway).headers["x-routeiq-deployment"] == "first"
        assert calls_to(sim, "sim-large") == 0
