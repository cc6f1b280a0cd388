"""The decision store over HTTP: every request is there, whichever worker is asked, and after a restart."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.experimenting import (
    SESSION,
    auth,
    declared,
    each_worker,
    group,
    many,
    record_of,
    settle,
    waiting,
)
from tests.integration.fleet import Stores, migrate, stores
from tests.integration.helpers import HARD, KEY, assert_error, chat, get, write
from tests.support.http import Answer
from tests.support.postgres import PostgresServer, own_server
from tests.support.processes import Gateway, SimulatorProcess, start_gateway

DECISIONS = "/routeiq/v1/decisions"
STATUS = "/routeiq/v1/status"
pytestmark = pytest.mark.timeout(120)


def config(sim: SimulatorProcess, **decisions: Any) -> dict[str, Any]:
    entries = [group("alpha", sim), group("beta", sim, "sim-large"), group("broken", sim)]
    entries[2]["litellm_params"]["model"] = "openai/sim-small#status=400"
    section = {
        "access": {
            "teams": {"crew": {}},
            "keys": declared("one", team="crew") | declared("two", permissions=["decisions.read"]),
        },
        "experiments": {
            "test": {"models": ["alpha"], "subject": ["session"], "variants": {"a": {}, "b": {}}}
        },
        "decisions": decisions,
        "affinity": {"enabled": False},
    }
    return {"model_list": entries, "router_settings": {"num_retries": 0}, "routeiq": section}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A gateway's configuration and its database."""

    path: Path
    database: str

    @contextlib.contextmanager
    def run(self, workers: int = 2) -> Iterator[Gateway]:
        env = {"DATABASE_URL": self.database}
        with start_gateway(self.path, workers=workers, env=env) as gateway:
            yield gateway


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path, sim: SimulatorProcess) -> Iterator[Place]:
    path = write(tmp_path, config(sim))
    with stores(request.param, tmp_path) as (env, _):
        yield Place(path=path, database=env["DATABASE_URL"])


def ids(answers: list[Answer]) -> list[str]:
    return [answer.headers["x-routeiq-decision-id"] for answer in answers]


def search(gateway: Gateway, query: str = "", key: str = "") -> list[dict[str, Any]]:
    """Everything that matches, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = get(gateway, f"{DECISIONS}?limit=17{query}{cursor}", auth(key) if key else None)
        assert answer.status == 200, answer.body
        page = answer.json()
        assert len(page["data"]) <= 17
        found += page["data"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def found_by_search(gateway: Gateway, query: str = "") -> Counter[str]:
    return Counter(one["decision_id"] for one in search(gateway, query))


def test_every_request_is_found_from_every_worker_and_after_restarts(place: Place) -> None:
    with place.run() as gateway:
        told = ids(many([gateway], 60, "alpha", fresh_after=3))
        told += ids(many([gateway], 20, "beta", fresh_after=3))
        told += ids(many([gateway], 5, "broken", fresh_after=3))
        gateway.terminate()  # at once: what waits is written while draining
        assert gateway.wait() == 0
    with place.run() as gateway:
        for _ in range(4):  # some of these reach the one worker, some the other
            assert found_by_search(gateway) == Counter(told)
        times = [one["time"] for one in search(gateway)]
        assert times == sorted(times, reverse=True)
        for id in told:
            found = get(gateway, f"{DECISIONS}/{id}")
            assert (found.status, found.json()["decision_id"]) == (200, id)
        more = ids(many([gateway], 30, "beta", fresh_after=1))
        settle(gateway, 2)
        for _ in range(4):
            assert found_by_search(gateway, "&model=beta") == Counter(told[60:80] + more)
        for id in more:
            assert get(gateway, f"{DECISIONS}/{id}").status == 200


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_waits_is_written_while_draining(
    tmp_path: Path, sim: SimulatorProcess, kind: Stores
) -> None:
    with stores(kind, tmp_path) as (env, _):
        path = write(tmp_path, config(sim, flush_s=600.0))
        place = Place(path=path, database=env["DATABASE_URL"])
        with place.run() as gateway:
            told = ids(many([gateway], 40, "alpha", fresh_after=2))
            assert waiting(gateway, 2) == 40
            gateway.terminate()
            assert gateway.wait() == 0
        with place.run() as gateway:
            assert found_by_search(gateway) == Counter(told)


def test_each_filter_finds_what_matches_and_nothing_else(place: Place) -> None:
    with place.run() as gateway:
        sent: list[Answer] = []
        for number in range(24):
            headers = [KEY, auth("one"), auth("two")][number % 3]
            model = ["alpha", "beta", "broken"][number // 3 % 3]
            headers = {**headers, SESSION: f"s{number % 4}"}
            sent.append(chat(gateway, model, headers=headers))
        settle(gateway, 2)
        every = [record_of(gateway, answer) for answer in sent]
        assert {one["key"] for one in every if one.get("team")} == {"one"}
        for field in (
            *("key", "team", "model", "requested", "strategy", "status", "outcome"),
            *("session_id", "experiment", "variant"),
        ):
            values = {one.get(field) for one in every} - {None}
            assert values, field
            for value in values:
                wanted = Counter(one["decision_id"] for one in every if one.get(field) == value)
                assert found_by_search(gateway, f"&{field}={value}") == wanted, (field, value)
            assert not found_by_search(gateway, f"&{field}={999 if field == 'status' else 'none'}")
        both = "&requested=alpha&session_id=s1"
        alike = [one for one in every if (one["requested"], one["session_id"]) == ("alpha", "s1")]
        assert found_by_search(gateway, both).total() == len(alike) > 0
        middle = sorted(one["time"] for one in every)[12]
        late = Counter(one["decision_id"] for one in every if one["time"] >= middle)
        assert found_by_search(gateway, f"&since={middle!r}") == late
        assert found_by_search(gateway, f"&until={middle!r}").total() == 24 - late.total()
        for query, param in (("limit=0", "limit"), ("colour=red", "colour"), ("since=x", "since")):
            assert_error(get(gateway, f"{DECISIONS}?{query}"), 400, param=param)


def test_who_may_see_which_decisions(gateway: Gateway) -> None:
    mine, others = chat(gateway, "alpha", headers=auth("one")), chat(gateway, "alpha")
    settle(gateway, 2)
    paths = [f"{DECISIONS}/{id}" for id in ids([mine, others])]
    assert [get(gateway, path, auth("one")).status for path in paths] == [200, 404]
    assert [get(gateway, path, auth("two")).status for path in paths] == [200, 200]
    assert get(gateway, DECISIONS, auth("one")).status == 403
    assert get(gateway, f"{DECISIONS}/export", auth("one")).status == 403
    assert search(gateway, key="two")
    assert get(gateway, paths[0], {}).status == 401


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("shared")
    place = Place(path=write(folder, config(simulator)), database=f"sqlite:///{folder}/kept.db")
    with place.run() as running:
        yield running


def test_off_keeps_records_in_memory_only(tmp_path: Path, sim: SimulatorProcess) -> None:
    path = write(tmp_path, config(sim, store=False))
    place = Place(path=path, database=f"sqlite:///{tmp_path}/kept.db")
    with place.run(workers=1) as gateway:
        told = ids(many([gateway], 10, "alpha"))
        assert found_by_search(gateway) == Counter(told)
        assert get(gateway, f"{DECISIONS}/{told[0]}").status == 200
        assert get(gateway, STATUS).json()["decision_store"] is None
    with place.run(workers=1) as gateway:
        assert not found_by_search(gateway)
        assert get(gateway, f"{DECISIONS}/{told[0]}").status == 404
    secret = HARD.encode()
    assert not any(secret in file.read_bytes() for file in tmp_path.glob("kept.db*"))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own, to be stopped."""
    with own_server() as running:
        migrate(running.url)
        yield running


def report(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = get(gateway, STATUS).json()["decision_store"]
    return found


@pytest.mark.parametrize("kill", [False, True])
def test_a_database_that_is_away_costs_no_request_and_drops_are_counted_exactly(
    tmp_path: Path, sim: SimulatorProcess, server: PostgresServer, kill: bool
) -> None:
    def place(name: str, **decisions: Any) -> Place:
        folder = tmp_path / name
        folder.mkdir()
        return Place(path=write(folder, config(sim, **decisions)), database=server.url)

    wide, tiny = place("wide"), place("tiny", queue=40)
    with wide.run() as roomy, tiny.run(workers=1) as small:
        before = [*ids(many([roomy], 20, "alpha")), *ids(many([small], 10, "beta"))]
        settle(roomy, 2)
        settle(small, 1)
        (server.kill if kill else server.stop)()
        kept = many([roomy], 120, "alpha", fresh_after=5)
        cut = many([small], 150, "beta")
        assert {answer.status for answer in (*kept, *cut)} == {200}
        dropped = report(small)["dropped"]
        assert dropped > 0
        assert dropped + report(small)["waiting"] == 150
        workers = each_worker(roomy, "status", 2)
        assert {page["decision_store"]["dropped"] for page in workers} == {0}
        assert waiting(roomy, 2) == 120
        shown = get(small, f"{DECISIONS}?limit=1000").json()
        assert shown["degraded"] is True
        newest = get(small, f"{DECISIONS}/{ids(cut)[-1]}").json()
        assert newest["degraded"] is True
        server.start()
        settle(small, 1)
        settle(roomy, 2)
        assert found_by_search(roomy, "&requested=alpha") == Counter(before[:20] + ids(kept))
        assert report(small)["dropped"] == dropped
        assert report(small)["error"] is None
        # In the database, by the other gateway: the newest are there, the oldest are those that went.
        there = found_by_search(roomy, "&requested=beta")
        assert there.total() == 10 + 150 - dropped
        assert set(before[20:]) <= set(there)
        assert ids(cut)[-1] in there
