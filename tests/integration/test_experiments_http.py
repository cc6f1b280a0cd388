"""Experiments over HTTP: who is in which variant, what that changes of what is carried out, when, and for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.experimenting import (
    EXPERIMENTS,
    HEADER,
    SESSION,
    auth,
    counted,
    declared,
    group,
    many,
    record_of,
    results,
    variant_of,
    wait_counted,
)
from tests.integration.helpers import (
    KEY,
    answered_by,
    assert_error,
    catalogue,
    chat,
    get,
    post,
)
from tests.support.http import Answer, call
from tests.support.processes import Gateway, SimulatorProcess, wait_until

BIG = {"control": {}, "big": {"model": "sim-large"}}
KEYS = [f"alone{number}" for number in range(8)]
USERS = [f"person{number}" for number in range(6)]
GROUPS = (
    *("by-key", "by-user", "by-session", "by-any", "half", "planned", "ended", "off"),
    *("layered", "reordered-a", "reordered-b", "narrow"),
)
PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def experiment(model: str, **fields: Any) -> dict[str, Any]:
    return {"models": [model], "subject": ["session"], "variants": BIG, **fields}


DECLARED: dict[str, dict[str, Any]] = {
    "by-key": experiment("by-key", subject=["key"]),
    "by-user": experiment("by-user", subject=["user"]),
    "by-session": experiment("by-session"),
    "by-any": experiment("by-any", subject=["key", "user", "session", "request"]),
    "half": experiment("half", traffic=0.5),
    "planned": experiment("planned", start=FUTURE),
    "ended": experiment("ended", start=PAST, end="2002-01-01T00:00:00Z"),
    "off": experiment("off", enabled=False),
    "first": experiment("layered", layer="screen", traffic=0.5, start=PAST),
    "second": experiment("layered", layer="screen", traffic=0.5),
    "forwards": experiment(
        "reordered-a", salt="same", variants={"a": {"weight": 3}, "b": {"weight": 1}, "c": {}}
    ),
    "backwards": experiment(
        "reordered-b", salt="same", variants={"c": {}, "b": {"weight": 1}, "a": {"weight": 3}}
    ),
    "strategies": experiment(
        "auto", variants={"cheap": {"strategy": "smallest"}, "dear": {"strategy": "largest"}}
    ),
    "profiles": experiment(
        "menu", variants={"usual": {}, "eco": {"profile": "eco"}, "top": {"profile": "premium"}}
    ),
    "narrow": experiment("narrow", subject=["request"], variants={"big": {"model": "sim-large"}}),
}


def config(sim: SimulatorProcess) -> dict[str, Any]:
    owners: dict[str, Any] = {name: {} for name in USERS}
    pairs = [declared(f"{name}-{n}", user=name) for name in USERS for n in (1, 2)]
    keys = {name: key for pair in pairs for name, key in pair.items()}
    section = {
        "groups": {"menu": {"models": ["sim-nano", "sim-small", "sim-large"]}},
        "access": {
            "users": owners,
            "keys": {
                **keys,
                **declared(*KEYS),
                **declared("tied", denied_models=["sim-large"]),
                **declared("reader", permissions=["experiments.read"]),
            },
        },
        "experiments": DECLARED,
    }
    entries = [*catalogue(sim.url), *(group(name, sim) for name in GROUPS)]
    return {"model_list": entries, "routeiq": section}


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """Two workers: what is sticky must be so on both."""
    return start(config(simulator), workers=2)


def upstream_of(sim: SimulatorProcess) -> Counter[str]:
    """Which models the simulator was asked for."""
    return Counter(str(one["json"]["model"]) for one in sim.requests())


def ask(gateway: Gateway, model: str, text: str = "Say hello.", **headers: str) -> Answer:
    answer = chat(gateway, model, text, headers=headers)
    assert answer.status == 200, answer.body
    return answer


def session(gateway: Gateway, model: str, name: str) -> Answer:
    return ask(gateway, model, **{SESSION: name})


def split(answers: Mapping[str, list[Answer]]) -> dict[str, str | None]:
    """The one variant of each subject."""
    found = {}
    for subject, seen in answers.items():
        variants = {variant_of(answer) for answer in seen}
        assert len(variants) == 1, (subject, variants)
        found[subject] = variants.pop()
    return found


def test_a_key_stays_with_its_variant(gateway: Gateway, sim: SimulatorProcess) -> None:
    got = split({key: [ask(gateway, "by-key", **auth(key)) for _ in range(5)] for key in KEYS})
    assert set(got.values()) == {"control", "big"}
    executed = Counter("sim-large" if got[key] == "big" else "sim-small" for key in KEYS * 5)
    assert upstream_of(sim) == executed


def test_keys_of_one_user_share_a_variant(gateway: Gateway) -> None:
    got = split(
        {
            name: [ask(gateway, "by-user", **auth(f"{name}-{n}")) for n in (1, 2) for _ in range(3)]
            for name in USERS
        }
    )
    assert set(got.values()) == {"control", "big"}


def test_a_key_without_a_user_takes_no_part_where_users_are_the_subject(gateway: Gateway) -> None:
    assert HEADER not in ask(gateway, "by-user", **auth(KEYS[0])).headers


def test_a_session_stays_with_its_variant_within_its_key(
    gateway: Gateway, sim: SimulatorProcess
) -> None:
    names = [f"talk{number}" for number in range(10)]
    got = split({one: [session(gateway, "by-session", one) for _ in range(4)] for one in names})
    assert set(got.values()) == {"control", "big"}
    executed = Counter("sim-large" if got[one] == "big" else "sim-small" for one in names * 4)
    assert upstream_of(sim) == executed
    others = {
        one: [ask(gateway, "by-session", **{SESSION: one, **auth(KEYS[0])}) for _ in range(2)]
        for one in names
    }
    assert split(others) != got  # the same name under another key is another conversation


def test_without_any_subject_nobody_is_assigned(gateway: Gateway) -> None:
    assert HEADER not in ask(gateway, "by-session").headers


def test_the_first_kind_of_subject_that_there_is_counts(gateway: Gateway) -> None:
    for headers, kind in (
        ({**auth(KEYS[0]), SESSION: "x"}, "key"),
        ({**KEY, SESSION: "x"}, "session"),
        (KEY, "request"),
    ):
        assert record_of(gateway, ask(gateway, "by-any", **headers))["subject"] == kind


def test_the_record_names_experiment_and_variant(gateway: Gateway) -> None:
    answer = session(gateway, "by-session", "on-record")
    record = record_of(gateway, answer)
    assert answer.headers[HEADER] == f"by-session={record['variant']}"
    wanted = {"experiment": "by-session", "subject": "session", "label": record["variant"]}
    assert wanted.items() <= record.items()
    assert record["requested"] == "by-session"
    assert record["model"] == {"control": "by-session", "big": "sim-large"}[record["variant"]]


def test_variants_change_the_strategy(gateway: Gateway, sim: SimulatorProcess) -> None:
    seen = {
        (variant_of(answer), answer.headers["x-routeiq-strategy"], answered_by(answer))
        for answer in (session(gateway, "auto", f"s{number}") for number in range(12))
    }
    assert seen == {("cheap", "smallest", "sim-nano"), ("dear", "largest", "sim-reasoner")}
    assert set(upstream_of(sim)) == {"sim-nano", "sim-reasoner"}


def test_variants_change_the_profile(gateway: Gateway, sim: SimulatorProcess) -> None:
    seen = {}
    for number in range(24):
        answer = session(gateway, "menu", f"s{number}")
        record = record_of(gateway, answer)
        seen[variant_of(answer)] = (record["profile"], record["model"])
    assert {one: profile for one, (profile, _) in seen.items()} == {
        "usual": "auto",
        "eco": "eco",
        "top": "premium",
    }
    assert seen["eco"][1] == "sim-nano"
    assert seen["top"][1] == "sim-large"
    assert {"sim-nano", "sim-large"} <= set(upstream_of(sim))


def test_who_names_a_profile_keeps_it(gateway: Gateway) -> None:
    answer = ask(gateway, "menu", **{SESSION: "s1", "x-routeiq-profile": "premium"})
    assert HEADER not in answer.headers
    assert record_of(gateway, answer)["profile"] == "premium"


def test_an_experiment_gives_no_key_more_rights(gateway: Gateway, sim: SimulatorProcess) -> None:
    answer = ask(gateway, "narrow", **auth("tied"))
    assert HEADER not in answer.headers
    assert upstream_of(sim) == {"sim-small": 1}
    assert variant_of(ask(gateway, "narrow", **auth(KEYS[0]))) == "big"


def test_only_the_share_of_traffic_takes_part(gateway: Gateway, sim: SimulatorProcess) -> None:
    answers = many([gateway], 200, "half")
    took = [answer for answer in answers if HEADER in answer.headers]
    assert 65 <= len(took) <= 135  # five standard deviations
    big = sum(variant_of(answer) == "big" for answer in took)
    assert upstream_of(sim) == {"sim-large": big, "sim-small": 200 - big}
    again = many([gateway], 200, "half")
    assert [variant_of(one) for one in again] == [variant_of(one) for one in answers]


@pytest.mark.parametrize(("name", "state"), [("planned",) * 2, ("ended",) * 2, ("off", "disabled")])
def test_outside_its_time_nobody_is_assigned(
    gateway: Gateway, sim: SimulatorProcess, name: str, state: str
) -> None:
    answers = many([gateway], 12, name)
    assert {variant_of(answer) for answer in answers} == {None}
    assert upstream_of(sim) == {"sim-small": 12}
    assert "experiment" not in record_of(gateway, answers[0])
    assert get(gateway, f"{EXPERIMENTS}/{name}").json()["state"] == state
    assert not counted(gateway, name)


def test_experiments_of_a_layer_share_nobody(gateway: Gateway) -> None:
    answers = many([gateway], 120, "layered")
    told = Counter(str(answer.headers.get(HEADER)).partition("=")[0] for answer in answers)
    assert set(told) == {"first", "second"}  # half of the layer each: together all of it
    assert min(told.values()) > 30
    wait_counted(gateway, "first", variants(answers, "first"))
    wait_counted(gateway, "second", variants(answers, "second"))


def variants(answers: list[Answer], name: str) -> Counter[str]:
    mine = [one for one in answers if str(one.headers.get(HEADER)).startswith(f"{name}=")]
    return Counter(str(variant_of(one)) for one in mine)


def test_the_order_of_declaration_is_of_no_account(gateway: Gateway) -> None:
    one = many([gateway], 60, "reordered-a")
    other = many([gateway], 60, "reordered-b")
    assert [variant_of(answer) for answer in one] == [variant_of(answer) for answer in other]
    assert {variant_of(answer) for answer in one} == {"a", "b", "c"}


def test_switched_off_by_the_environment_nobody_is_assigned(
    start: StartGateway, sim: SimulatorProcess
) -> None:
    gateway = start(config(sim), env={"ROUTEIQ_AB_TESTING_ENABLED": "false"})
    answers = many([gateway], 12, "by-session")
    assert {variant_of(answer) for answer in answers} == {None}
    assert upstream_of(sim) == {"sim-small": 12}
    assert "experiment" not in record_of(gateway, answers[0])
    body = {"name": "late", **experiment("half")}
    made = post(gateway, EXPERIMENTS, body)
    assert made.status == 201, made.body
    assert {variant_of(answer) for answer in many([gateway], 12, "half")} == {None}


def test_start_stop_reset_and_delete(gateway: Gateway, sim: SimulatorProcess) -> None:
    body = {"name": "made", **experiment("sim-medium"), "enabled": False}
    made = post(gateway, EXPERIMENTS, body)
    assert (made.status, made.json()["state"], made.json()["source"]) == (201, "disabled", "api")

    def assigned(number: int) -> bool:
        return {HEADER in one.headers for one in many([gateway], 12, "sim-medium")} == {number > 0}

    wait_until(lambda: assigned(0), "nobody is assigned")
    sim.reset()
    started = post(gateway, f"{EXPERIMENTS}/made/start", {})
    assert (started.status, started.json()["state"]) == (200, "running")
    wait_until(lambda: assigned(1), "everybody is assigned")
    assert upstream_of(sim)["sim-large"] > 0
    assert post(gateway, f"{EXPERIMENTS}/made/stop", {}).json()["state"] == "disabled"
    wait_until(lambda: assigned(0), "nobody is assigned")
    wait_until(lambda: counted(gateway, "made").total() >= 12, "what happened stays counted")
    assert post(gateway, f"{EXPERIMENTS}/made/reset", {}).status == 200
    wait_until(lambda: not counted(gateway, "made"), "the figures are gone")
    assert post(gateway, f"{EXPERIMENTS}/made/start", {}).status == 200
    wait_until(lambda: assigned(1), "everybody is assigned")
    gone = call(f"{gateway.url}{EXPERIMENTS}/made", method="DELETE", headers=KEY)
    assert gone.json() == {"name": "made", "deleted": True}
    wait_until(lambda: assigned(0), "nobody is assigned")
    assert_error(get(gateway, f"{EXPERIMENTS}/made/results"), 404)


def test_a_declared_experiment_can_be_stopped_and_started_but_not_deleted(gateway: Gateway) -> None:
    def told() -> set[str | None]:
        return {variant_of(answer) for answer in many([gateway], 16, "by-session")}

    assert post(gateway, f"{EXPERIMENTS}/by-session/stop", {}).status == 200
    wait_until(lambda: told() == {None}, "nobody is assigned")
    refused = call(f"{gateway.url}{EXPERIMENTS}/by-session", method="DELETE", headers=KEY)
    assert_error(refused, 409, says="config.yaml")
    assert post(gateway, f"{EXPERIMENTS}/by-session/start", {}).status == 200
    wait_until(lambda: told() == {"control", "big"}, "all are assigned again")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"name": "bad name", "variants": BIG}, 400, "name"),
        ({"name": "x", "variants": {}}, 400, "variants"),
        ({"name": "x", "variants": {"a": {"strategy": "no-such"}}}, 400, "no-such"),
        ({"name": "x", "variants": {"a": {"model": "no-such"}}}, 400, "no-such"),
        ({"name": "x", "variants": {"a": {"profile": "no-such"}}}, 400, "no-such"),
        ({"name": "by-key", "variants": BIG}, 409, "already"),
    ],
)
def test_what_cannot_be_used_is_refused(
    gateway: Gateway, body: dict[str, Any], status: int, says: str
) -> None:
    before = get(gateway, EXPERIMENTS).json()
    assert_error(post(gateway, EXPERIMENTS, body), status, says=says)
    assert get(gateway, EXPERIMENTS).json() == before


def test_reading_and_changing_need_their_permissions(gateway: Gateway) -> None:
    body = {"name": "x", **experiment("half")}
    for name, reads, writes in (("reader", 200, 403), (KEYS[0], 403, 403)):
        assert get(gateway, f"{EXPERIMENTS}/by-key/results", auth(name)).status == reads
        assert post(gateway, EXPERIMENTS, body, auth(name)).status == writes
        assert post(gateway, f"{EXPERIMENTS}/by-key/stop", {}, auth(name)).status == writes
    assert results(gateway, "by-key")["state"] == "running"


def test_a_change_of_what_somebody_else_changed_is_refused(gateway: Gateway) -> None:
    seen = get(gateway, EXPERIMENTS).headers["etag"]
    assert post(gateway, f"{EXPERIMENTS}/planned/stop", {}, {"if-match": seen}).status == 200
    late = post(gateway, f"{EXPERIMENTS}/planned/stop", {}, {"if-match": seen})
    assert_error(late, 412)
