"""A conversation stays with the deployment that has its prompt in cache, whichever worker or gateway is asked."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import place
from tests.integration.fleet import BASE, Fleet, Line, Stores, fleet
from tests.integration.helpers import catalogue, write
from tests.support.http import Answer
from tests.support.processes import SimulatorProcess, wait_until
from tests.support.redis import needs_redis

pytestmark = [needs_redis, pytest.mark.timeout(120)]
STAYS = "the conversation stays with"
SESSION = "x-routeiq-session-id"
SLOW = {"ROUTEIQ_CB_FAILURE_THRESHOLD": "1", "ROUTEIQ_CB_TIMEOUT_SECONDS": "600"}


def configured(folder: Path, sim: SimulatorProcess, **affinity: Any) -> Path:
    """`twins` are two equal deployments, in turns; `auto` takes models in turns."""
    twins = [
        place(name, sim.url, model, group="twins")
        for name, model in (("one", "sim-small"), ("two", "sim-large"))
    ]
    section = {"strategy": "round-robin", "balancing": "round-robin", "affinity": affinity}
    return write(folder, {"model_list": [*catalogue(sim.url), *twins], "routeiq": section})


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    with fleet(
        configured(tmp_path_factory.mktemp("affinity"), simulator), workers=2, env=SLOW
    ) as made:
        yield made


def name() -> str:
    return f"s-{uuid.uuid4()}"


def by(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["x-routeiq-deployment"]


def stays(answer: Answer) -> bool:
    return STAYS in answer.headers["x-routeiq-reason"]


def settled(line: Line) -> None:
    """What the worker learned is in the shared store."""
    wait_until(lambda: line.get("status")["affinity"]["unwritten"] == 0, "it is written")


def begun(
    line: Line, session: str, model: str = "twins", headers: Mapping[str, str] | None = None
) -> str:
    """The first turn; who answered."""
    first = line.chat(model, headers={SESSION: session, **(headers or {})})
    assert not stays(first)
    settled(line)
    return by(first)


def test_every_worker_of_both_gateways_keeps_it(gateways: Fleet) -> None:
    used = set()
    for number in range(8):
        session = name()
        home = begun(gateways.lines[number % 4], session)
        used.add(home)
        for line in gateways.lines:
            turn = line.chat("twins", headers={SESSION: session})
            assert (by(turn), stays(turn)) == (home, True)
            assert turn.headers["x-routeiq-reason"] == f"{STAYS} twins"
    assert used == {"one", "two"}  # where a conversation begins is still balanced


def test_without_a_conversation_turns_are_taken(gateways: Fleet) -> None:
    answers = [gateways.first.chat("twins") for _ in range(6)]
    assert {by(one) for one in answers} == {"one", "two"}
    assert not any(map(stays, answers))


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_without_redis_workers_share_it_too(
    tmp_path: Path, sim: SimulatorProcess, kind: Stores
) -> None:
    path = configured(tmp_path, sim)
    with fleet(path, kind, gateways=1 if kind == "sqlite" else 2, workers=2) as made:
        for _ in range(4):
            session = name()
            home = begun(made.first, session)
            turns = [line.chat("twins", headers={SESSION: session}) for line in made.lines]
            assert [by(turn) for turn in turns] == [home] * len(turns)
            assert all(map(stays, turns))


@pytest.mark.parametrize("key", ["session_id", "conversation_id", "thread_id"])
def test_metadata_names_it(gateways: Fleet, key: str) -> None:
    session = name()
    home = by(gateways.first.chat("twins", metadata={key: session}))
    settled(gateways.first)
    for line in gateways.lines:
        turn = line.chat("twins", metadata={key: session})
        assert (by(turn), stays(turn)) == (home, True)


@pytest.mark.parametrize("header", [SESSION, "x-litellm-session-id"])
def test_a_header_goes_before_metadata(gateways: Fleet, header: str) -> None:
    session, other = name(), name()
    begun(gateways.first, session)
    turn = gateways.last.chat("twins", headers={header: session}, metadata={"session_id": other})
    assert stays(turn)
    record = gateways.last.get(f"decisions/{turn.headers['x-routeiq-decision-id']}")
    assert record["session_id"] == session
    assert STAYS in record["reason"]
    assert not stays(gateways.last.chat("twins", headers={header: name()}))


@pytest.mark.parametrize("stream", [False, True])
def test_a_responses_chain_is_one(gateways: Fleet, stream: bool) -> None:
    for begins in gateways.lines[:2]:
        first = begins.send("/v1/responses", {"model": "twins", "input": "hi", "stream": stream})
        home, previous = by(first), response_of(first, stream)
        for line in (gateways.last, gateways.lines[1], gateways.lines[2]):
            settled(begins)
            body = {"model": "twins", "input": "on", "previous_response_id": previous}
            turn = line.send("/v1/responses", {**body, "stream": stream})
            assert (by(turn), stays(turn)) == (home, True)
            begins, previous = line, response_of(turn, stream)


def response_of(answer: Answer, stream: bool) -> str:
    found = json.loads(answer.events()[0])["response"] if stream else answer.json()
    assert found["id"].startswith("resp_")
    return str(found["id"])


def test_auto_stays_with_its_model_and_another_model_wins(gateways: Fleet) -> None:
    session = name()
    home = begun(gateways.first, session, "auto")
    for line in gateways.lines:
        turn = line.chat("auto", headers={SESSION: session})
        assert (by(turn), stays(turn)) == (home, True)
        assert turn.headers["x-routeiq-model"] == home
    other = "sim-large" if home != "sim-large" else "sim-small"
    asked = gateways.last.chat(other, headers={SESSION: session})
    assert (asked.headers["x-routeiq-model"], stays(asked)) == (other, False)
    assert by(gateways.first.chat("auto", headers={SESSION: session})) == home


def test_a_hint_wins_and_moves_it(gateways: Fleet) -> None:
    session = name()
    home = begun(gateways.first, session, "auto")
    other = "sim-medium" if home != "sim-medium" else "sim-nano"
    hinted = gateways.first.chat("auto", headers={SESSION: session, "x-routeiq-hint": other})
    assert (hinted.headers["x-routeiq-model"], stays(hinted)) == (other, False)
    settled(gateways.first)
    assert by(gateways.first.chat("auto", headers={SESSION: session})) == other


def test_callers_do_not_share_conversations(gateways: Fleet) -> None:
    session = name()
    made = gateways.first.send(f"{BASE}/keys", {"alias": f"tenant {session}"}).json()
    theirs = {"authorization": f"Bearer {made['secret']}"}
    begun(gateways.first, session)
    begun(gateways.first, session, headers=theirs)  # begins anew: it is another one
    assert stays(gateways.last.chat("twins", headers={SESSION: session, **theirs}))


def test_it_moves_when_the_key_may_no_longer_use_the_model(gateways: Fleet) -> None:
    session = name()
    made = gateways.first.send(f"{BASE}/keys", {"alias": f"narrowed {session}"}).json()
    headers = {"authorization": f"Bearer {made['secret']}", SESSION: session}
    home = begun(gateways.first, session, "auto", headers)
    rest = {"settings": {"models": ["*"], "denied_models": [home]}}
    changed = gateways.first.send(f"{BASE}/keys/{made['id']}", rest, method="PATCH")
    assert changed.status == 200, changed.body
    gateways.reaches_all(
        lambda line: by(line.chat("auto", headers=headers)) != home, "it left", 3.0
    )
    settled(gateways.first)
    assert stays(gateways.first.chat("auto", headers=headers))


def test_it_moves_when_the_breaker_opens_and_does_not_move_back(
    gateways: Fleet, sim: SimulatorProcess
) -> None:
    session = name()
    home = begun(gateways.first, session)
    other, failing = ("two", "sim-small") if home == "one" else ("one", "sim-large")
    sim.behave("status=500", failing)
    moved = gateways.first.chat("twins", headers={SESSION: session})
    assert by(moved) == other
    assert f"fallback from {home}" in moved.headers["x-routeiq-reason"]
    for line in gateways.lines:
        turn = line.chat("twins", headers={SESSION: session})
        assert by(turn) == other
    sim.mend()
    gateways.first.put(f"breakers/{home}", {"override": "closed"})
    wait_until(gateways.agreed, "it is closed everywhere")
    gateways.first.put(f"breakers/{home}", {"override": None})
    settled(gateways.first)
    turn = gateways.first.chat("twins", headers={SESSION: session})
    assert (by(turn), stays(turn)) == (other, True)  # its prompt is in the other's cache by now


def test_it_leaves_a_drained_deployment(gateways: Fleet) -> None:
    session = name()
    home = begun(gateways.first, session)
    assert gateways.last.put(f"breakers/{home}", {"override": "drain"}).status == 200
    gateways.reaches_all(
        lambda line: by(line.chat("twins", headers={SESSION: session})) != home, "it left"
    )
    assert gateways.last.put(f"breakers/{home}", {"override": None}).status == 200


def test_it_is_forgotten_a_while_after_its_last_turn(tmp_path: Path, sim: SimulatorProcess) -> None:
    ttl_s = 1.5
    with fleet(configured(tmp_path, sim, ttl_s=ttl_s), workers=1) as made:
        session = name()
        home = begun(made.first, session)
        for number in range(4):  # each turn renews it: together they take longer than the time
            time.sleep(ttl_s * 0.45)
            turn = made.lines[number % 2].chat("twins", headers={SESSION: session})
            assert (by(turn), stays(turn)) == (home, True)
        time.sleep(ttl_s * 1.5)
        assert [stays(line.chat("twins", headers={SESSION: name()})) for line in made.lines] == [
            False,
            False,
        ]
        assert not stays(made.first.chat("twins", headers={SESSION: session}))


def test_off_is_off(tmp_path: Path, sim: SimulatorProcess) -> None:
    with fleet(configured(tmp_path, sim, enabled=False), "sqlite", gateways=1, workers=1) as made:
        session = name()
        turns = [made.first.chat("twins", headers={SESSION: session}) for _ in range(6)]
        assert {by(turn) for turn in turns} == {"one", "two"}
        assert not any(map(stays, turns))
        assert made.first.get("status")["affinity"] is None
