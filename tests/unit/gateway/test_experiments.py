from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from routeiq.access.principal import Principal
from routeiq.exceptions import (
    Conflict,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    StateUnavailable,
    StoreUnavailable,
)
from routeiq.experiments.definitions import DOCUMENT
from routeiq.experiments.exposure import group
from routeiq.gateway.asgi import Message
from routeiq.gateway.experiments import BASE, ExperimentsApi
from routeiq.ports import Header
from routeiq.state.memory.audit import MemoryAudit
from routeiq.state.memory.counters import MemoryCounters
from routeiq.state.memory.documents import MemoryDocuments
from routeiq.stores import Change, Document
from tests.support.clock import FakeClock
from tests.unit.experiments.helpers import FakeNames, at, experiment

pytestmark = pytest.mark.anyio
AB = {"control": {}, "candidate": {"strategy": "knn"}}


class Keys:
    """Lets `reader` read and `writer` do both."""

    async def require(self, headers: Iterable[Header], permission: str) -> Principal:
        name = dict(headers)[b"authorization"].decode()
        verbs = {
            "reader": {"experiments.read"},
            "writer": {"experiments.read", "experiments.write"},
        }
        if permission not in verbs[name]:
            raise PermissionDenied("no")
        return Principal(alias=name)


class Store(MemoryDocuments):
    down = False
    races = 0

    async def read(self, name: str) -> Document:
        if self.down:
            raise StoreUnavailable("down")
        return await super().read(name)

    async def write(
        self, name: str, body: Any, change: Change, *, expected: int | None = None
    ) -> Document:
        if self.races:
            self.races -= 1
            before = await self.read(name)
            other = Change(actor="x", action="x", target="x")
            await super().write(name, before.body, other)
        return await super().write(name, body, change, expected=expected)


class Gateway:
    """The API and what is behind it."""

    def __init__(self, clock: FakeClock) -> None:
        self.audit = MemoryAudit(clock)
        self.documents = Store(clock, self.audit)
        self.counters = MemoryCounters()
        self.announced = 0
        self.declared = {"fixed": experiment()}
        self.status = 0
        self.etag = ""
        self._routes = ExperimentsApi(
            authenticator=Keys(),
            documents=self.documents,
            counters=self.counters,
            clock=clock,
            declared=lambda: self.declared,
            names=FakeNames,
            announce=self._announce,
        ).routes()

    async def _announce(self) -> None:
        self.announced += 1

    async def call(
        self,
        method: str,
        path: str = "",
        body: Any = None,
        *,
        key: str = "writer",
        if_match: str | None = None,
        query: bytes = b"",
    ) -> Any:
        parts = path.strip("/").split("/") if path else []
        template = BASE + ("/{name}" if parts else "") + "".join(f"/{p}" for p in parts[1:])
        headers = [(b"authorization", key.encode())]
        if if_match is not None:
            headers.append((b"if-match", if_match.encode()))
        scope = {
            "headers": headers,
            "path_params": {"name": parts[0]} if parts else {},
            "request_id": "req",
            "query_string": query,
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": orjson.dumps(body), "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._routes[template][method](scope, receive, send)
        self.status = sent[0]["status"]
        self.etag = dict(sent[0]["headers"]).get(b"etag", b"").decode()
        return json.loads(sent[1]["body"])


@pytest.fixture
def gateway(clock: FakeClock) -> Gateway:
    return Gateway(clock)


async def test_life_of_an_experiment(gateway: Gateway, clock: FakeClock) -> None:
    made = await gateway.call("POST", body={"name": "new", "variants": AB, "traffic": 0.5})
    assert (gateway.status, gateway.etag, gateway.announced) == (201, '"1"', 1)
    assert (made["state"], made["source"], made["share"]) == ("running", "api", 0.5)
    assert made["definition"]["start"].startswith("2027-01-15T08:00:00")
    listed = await gateway.call("GET", key="reader")
    assert [(one["name"], one["source"]) for one in listed["data"]] == [
        ("fixed", "config"),
        ("new", "api"),
    ]
    assert listed["problems"] == []
    await gateway.call("POST", "new/stop")
    assert (await gateway.call("GET", "new"))["state"] == "disabled"
    clock.advance(60)
    again = await gateway.call("POST", "new/start")
    assert (again["state"], again["definition"]["start"]) == (
        "running",
        made["definition"]["start"],
    )
    assert (await gateway.call("DELETE", "new"))["deleted"] is True
    with pytest.raises(NotFound):
        await gateway.call("GET", "new")
    rows = await gateway.audit.latest()
    assert [row["action"] for row in rows] == [
        f"experiments.{verb}" for verb in ("delete", "start", "stop", "create")
    ]
    assert {(row["actor"], row["target"], row["request_id"]) for row in rows} == {
        ("writer", "new", "req")
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("PUT", "e"),
        ("DELETE", "e"),
        *(("POST", f"e/{v}") for v in ("start", "stop", "reset")),
    ],
)
async def test_changes_need_the_permission(gateway: Gateway, method: str, path: str) -> None:
    with pytest.raises(PermissionDenied):
        await gateway.call(method, path, {}, key="reader")


async def test_the_order_of_precedence_of_dates(gateway: Gateway, clock: FakeClock) -> None:
    """Nobody starts before now, so nobody takes the place of another in a layer."""
    past = {"variants": AB, "start": at(clock.wall() - 99).isoformat()}
    made = await gateway.call("POST", body={"name": "e", **past})
    assert made["definition"]["start"].startswith("2027-01-15T08:00:00")
    clock.advance(50)
    same = await gateway.call("PUT", "e", {"variants": AB})
    assert same["definition"]["start"] == made["definition"]["start"]
    moved = await gateway.call("PUT", "e", past)
    assert moved["definition"]["start"].startswith("2027-01-15T08:00:50")
    later = at(clock.wall() + 10).isoformat()
    planned = await gateway.call("PUT", "e", {"variants": AB, "start": later})
    assert planned["state"] == "planned"
    assert (await gateway.call("POST", "e/start"))["state"] == "running"


async def test_a_ramp_needs_no_date_here(gateway: Gateway) -> None:
    made = await gateway.call("POST", body={"name": "e", "variants": AB, "ramp": {"start": 0.1}})
    assert made["share"] == 0.1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"variants": AB}, "name"),
        ({"name": "a/b", "variants": AB}, "name"),
        ({"name": "e"}, "e.variants"),
        ({"name": "e", "variants": AB, "typo": 1}, "e.typo"),
        ({"name": "e", "variants": {"a": {"strategy": "nope"}}}, "e.variants.a.strategy"),
        ({"name": "e", "variants": AB, "layer": "l", "traffic": 2}, "e.traffic"),
    ],
)
async def test_a_wrong_definition_is_refused_with_its_place(
    gateway: Gateway, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await gateway.call("POST", body=body)
    assert caught.value.param == param
    assert (await gateway.documents.read(DOCUMENT)).version == 0


async def test_an_over_full_layer_is_refused(gateway: Gateway, clock: FakeClock) -> None:
    one = {"variants": AB, "layer": "l", "traffic": 0.6}
    await gateway.call("POST", body={"name": "a", **one})
    clock.advance(1)
    with pytest.raises(InvalidRequest, match="over-full"):
        await gateway.call("POST", body={"name": "b", **one})
    await gateway.call("POST", body={"name": "b", **one, "traffic": 0.4})


async def test_a_name_is_taken_once_and_its_figures_are_spared(gateway: Gateway) -> None:
    await gateway.call("POST", body={"name": "e", "variants": AB})
    await gateway.counters.apply(group("e"), "w", 1, {"control:requests": 5})
    for name in ("e", "fixed"):
        with pytest.raises(Conflict, match="already"):
            await gateway.call("POST", body={"name": name, "variants": AB})
    assert await gateway.counters.read(group("e")) == {"control:requests": 5}


async def test_what_stands_in_config_yaml_is_started_and_stopped_only(gateway: Gateway) -> None:
    assert (await gateway.call("POST", "fixed/stop"))["state"] == "disabled"
    assert (await gateway.call("POST", "fixed/start"))["state"] == "running"
    for method in ("PUT", "DELETE"):
        with pytest.raises(Conflict, match=r"config\.yaml"):
            await gateway.call(method, "fixed", {"variants": AB})


async def test_one_that_has_ended_is_not_started(gateway: Gateway, clock: FakeClock) -> None:
    end = at(clock.wall() + 5).isoformat()
    await gateway.call("POST", body={"name": "e", "variants": AB, "end": end})
    clock.advance(5)
    with pytest.raises(Conflict, match="has ended"):
        await gateway.call("POST", "e/start")


async def test_the_meaning_of_a_running_one_is_fixed(gateway: Gateway) -> None:
    await gateway.call("POST", body={"name": "e", "variants": AB})
    other = {"variants": {**AB, "candidate": {"strategy": "prior"}}}
    with pytest.raises(Conflict, match="Stop it"):
        await gateway.call("PUT", "e", other)
    more = {"variants": {"control": {}, "candidate": {"strategy": "knn", "weight": 3}}}
    await gateway.call("PUT", "e", more)
    await gateway.call("POST", "e/stop")
    changed = await gateway.call("PUT", "e", {**other, "enabled": False})
    assert changed["definition"]["variants"]["candidate"] == {"strategy": "prior"}


async def test_a_stale_version_is_refused(gateway: Gateway) -> None:
    await gateway.call("POST", body={"name": "e", "variants": AB}, if_match='"0"')
    with pytest.raises(PreconditionFailed):
        await gateway.call("PUT", "e", {"variants": AB}, if_match='"0"')
    await gateway.call("PUT", "e", {"variants": AB}, if_match=gateway.etag)
    gateway.documents.races = 1
    with pytest.raises(PreconditionFailed):
        await gateway.call("PUT", "e", {"variants": AB}, if_match=gateway.etag)
    await gateway.call("PUT", "e", {"variants": AB}, if_match="*")
    with pytest.raises(InvalidRequest):
        await gateway.call("PUT", "e", {"variants": AB}, if_match='"x"')


async def test_without_a_version_the_change_is_repeated(gateway: Gateway) -> None:
    gateway.documents.races = 3
    await gateway.call("POST", body={"name": "e", "variants": AB})
    assert gateway.etag == '"4"'
    gateway.documents.races = 99
    with pytest.raises(Conflict):
        await gateway.call("POST", "e/stop")


async def test_reset_forgets_figures_and_stops(gateway: Gateway) -> None:
    await gateway.call("POST", body={"name": "e", "variants": AB})
    document = await gateway.documents.read(DOCUMENT)
    body = {**(document.body or {}), "stopped": {"e": {"candidate": {"at": 1, "why": "w"}}}}
    await gateway.documents.write(DOCUMENT, body, Change(actor="g", action="g", target="e"))
    await gateway.counters.apply(group("e"), "w", 1, {"control:requests": 5})
    assert (await gateway.call("GET", "e"))["stopped"] == {"candidate": {"at": 1, "why": "w"}}
    assert (await gateway.call("POST", "e/reset"))["stopped"] == {}
    assert await gateway.counters.read(group("e")) == {}
    assert (await gateway.documents.read(DOCUMENT)).body["resets"] == {"e": 2}  # type: ignore[index]


async def test_a_variant_that_is_gone_is_not_stopped_any_more(gateway: Gateway) -> None:
    await gateway.call("POST", body={"name": "e", "variants": AB})
    body = (await gateway.documents.read(DOCUMENT)).body or {}
    stopped = {"e": {"candidate": {"at": 1}, "control": {"at": 1}}}
    change = Change(actor="g", action="g", target="e")
    await gateway.documents.write(DOCUMENT, {**body, "stopped": stopped}, change)
    shown = await gateway.call("PUT", "e", {"variants": {"control": {}, "third": {"model": "gpt"}}})
    assert shown["stopped"] == {"control": {"at": 1}}


async def test_results(gateway: Gateway) -> None:
    await gateway.counters.apply(group("fixed"), "w", 1, {"control:requests": 5})
    found = await gateway.call("GET", "fixed/results", key="reader", query=b"confidence=0.9")
    assert found["variants"]["control"]["requests"] == 5
    assert found["confidence"] == 0.9
    assert (await gateway.call("GET", "fixed/results"))["confidence"] == 0.95
    with pytest.raises(NotFound):
        await gateway.call("GET", "nope/results")
    for wrong in (b"confidence=1", b"confidence=x", b"confidence=nan"):
        with pytest.raises(InvalidRequest):
            await gateway.call("GET", "fixed/results", query=wrong)


@pytest.mark.parametrize("path", ["nope", "nope/start", "nope/stop", "nope/reset"])
async def test_what_is_not_there(gateway: Gateway, path: str) -> None:
    for method in ("POST",) if "/" in path else ("GET", "PUT", "DELETE"):
        with pytest.raises(NotFound, match=quote("nope")):
            await gateway.call(method, path, {"variants": AB})


async def test_one_that_cannot_be_used_is_listed_as_a_problem_and_can_be_deleted(
    gateway: Gateway,
) -> None:
    body = {"definitions": {"old": {"variants": {"a": {"strategy": "gone"}}}}}
    await gateway.documents.write(DOCUMENT, body, Change(actor="g", action="g", target="e"))
    assert "no strategy is called 'gone'" in (await gateway.call("GET"))["problems"][0]
    await gateway.call("POST", body={"name": "e", "variants": AB})  # no new problem: not refused
    await gateway.call("DELETE", "old")
    assert (await gateway.call("GET"))["problems"] == []


async def test_a_store_that_is_down_is_said(gateway: Gateway) -> None:
    gateway.documents.down = True
    for method, path in (("GET", ""), ("GET", "fixed"), ("POST", "fixed/stop")):
        with pytest.raises(StateUnavailable) as caught:
            await gateway.call(method, path)
        assert caught.value.retry_after_s
