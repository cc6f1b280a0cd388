"""What a key may do, over HTTP: models, profiles, hints, tags, the admin API; nothing grants more than one has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.access import CHAT, Fleet, Made, bearer, models, sqlite_fleet, until
from tests.integration.helpers import HARD, answered_by, assert_error, entry, write
from tests.support.http import Answer
from tests.support.processes import SimulatorProcess

CHAT_MODELS = {"sim-nano", "sim-small", "sim-medium", "sim-large", "sim-reasoner"}
PROMPTS = ["Say hello.", "What is 2 + 2?", HARD, "Write a poem about rain.", "Explain monads."]
OTHER_MODELS = sorted(CHAT_MODELS - {"sim-medium"})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess) -> Iterator[Fleet]:
    tagged = [
        entry(
            "tagged", simulator.url, "sim-small", tags=["blue"], order=2, info={"id": "tagged-blue"}
        ),
        entry("tagged", simulator.url, "sim-nano", order=1, info={"id": "tagged-plain"}),
    ]
    config: dict[str, Any] = {
        "model_list": [*models(simulator.url), *tagged],
        "router_settings": {
            "enable_tag_filtering": True,
            "fallbacks": [{"sim-nano": ["sim-large", "sim-small"]}],
        },
        "routeiq": {
            "profiles": {
                "quick": {"models": ["sim-nano", "sim-small"]},
                "quiet": {"models": ["sim-small"]},
            },
        },
    }
    path = write(tmp_path_factory.mktemp("rights"), config)
    with sqlite_fleet(path) as running:
        yield running


@pytest.fixture
def sim(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    simulator.reset()
    yield simulator
    simulator.reset()


def seen(sim: SimulatorProcess) -> set[str]:
    """The models that were called."""
    return {one["json"]["model"] for one in sim.requests()}


def listed(fleet: Fleet, key: Made) -> set[str]:
    answer = fleet.lines[0].send("/v1/models", headers=bearer(key.secret))
    return {one["id"] for one in answer.json()["data"]}


@pytest.mark.parametrize(
    ("settings", "good"),
    [
        ({}, CHAT_MODELS),
        ({"models": ["sim-small"]}, {"sim-small"}),
        ({"models": ["sim-s*", "*nano"]}, {"sim-small", "sim-nano"}),
        ({"denied_models": ["sim-large", "sim-r*"]}, {"sim-nano", "sim-small", "sim-medium"}),
        ({"models": ["sim-*"], "denied_models": ["*a*"]}, {"sim-medium"}),
        ({"models": []}, set()),
    ],
)
def test_models_by_name(
    fleet: Fleet, sim: SimulatorProcess, settings: dict[str, Any], good: set[str]
) -> None:
    key = fleet.key(**settings)
    for model in sorted(CHAT_MODELS):
        answer = fleet.chat(key.secret, model)
        if model in good:
            assert answered_by(answer) == model
        else:
            assert_error(answer, 403, "permission_denied")
    assert seen(sim) == good
    assert listed(fleet, key) & CHAT_MODELS == good
    assert ("auto" in listed(fleet, key)) is bool(good)
    for model in sorted(CHAT_MODELS):
        found = fleet.lines[1].send(f"/v1/models/{model}", headers=bearer(key.secret))
        assert found.status == (200 if model in good else 404)


def test_a_team_and_a_key_both_narrow_what_may_answer(fleet: Fleet, sim: SimulatorProcess) -> None:
    team = fleet.make(
        "team", settings={"models": ["sim-small", "sim-nano"], "denied_models": ["sim-tiny"]}
    )
    user = fleet.make("user", team=team.id, settings={"denied_models": ["sim-nano"]})
    key = fleet.make("key", user=user.id, settings={"models": ["sim-*"]})
    assert listed(fleet, key) & CHAT_MODELS == {"sim-small"}
    assert fleet.chat(key.secret, "sim-nano").status == 403
    assert answered_by(fleet.chat(key.secret, "auto", HARD)) == "sim-small"
    assert seen(sim) == {"sim-small"}
    fleet.change(user, settings={"denied_models": None})
    until(lambda: fleet.statuses(key.secret, model="sim-nano") == [200, 200], "it is allowed", 1.0)


@pytest.mark.parametrize("left", sorted(CHAT_MODELS))
def test_auto_never_chooses_what_is_denied(fleet: Fleet, sim: SimulatorProcess, left: str) -> None:
    free, key = fleet.key(), fleet.key(denied_models=["tagged", *(CHAT_MODELS - {left})])
    denied_choice = fleet.key(denied_models=[left, "tagged"])
    for text in PROMPTS:
        assert answered_by(fleet.chat(key.secret, "auto", text)) == left
    assert seen(sim) == {left}
    sim.reset()
    for text in PROMPTS:
        fleet.chat(denied_choice.secret, "auto", text)
    assert left not in seen(sim)
    assert fleet.chat(free.secret, left).status == 200


def test_hints_profiles_and_sessions_open_no_denied_model(
    fleet: Fleet, sim: SimulatorProcess
) -> None:
    key = fleet.key(denied_models=["sim-small"])
    for headers in (
        {"x-routeiq-hint": "sim-small"},
        {"x-routeiq-session-id": "s-1"},
        {"x-routeiq-profile": "quick"},
    ):
        for text in PROMPTS[:2]:
            assert fleet.chat(key.secret, "auto", text, headers=headers).status == 200
    assert fleet.chat(key.secret, "quick").status == 200
    answer = fleet.chat(key.secret, "auto", headers={"x-routeiq-profile": "quiet"})
    assert_error(answer, 403, "permission_denied")
    assert "sim-small" not in seen(sim)


def test_a_conversation_leaves_a_model_that_its_key_lost(
    fleet: Fleet, sim: SimulatorProcess
) -> None:
    key = fleet.key()
    session = {"x-routeiq-session-id": key.id}
    first = answered_by(fleet.chat(key.secret, "auto", headers=session))
    fleet.change(key, settings={"denied_models": [first]})
    until(lambda: 200 not in fleet.statuses(key.secret, model=first), "it is denied", 1.0)
    sim.reset()
    for line in fleet.lines:
        assert fleet.chat(key.secret, "auto", headers=session, line=line).status == 200
    assert first not in seen(sim)


def test_fallbacks_do_not_escape(fleet: Fleet, sim: SimulatorProcess) -> None:
    sim.behave("status=500", "sim-nano")
    free = fleet.key()
    assert answered_by(fleet.chat(free.secret, "sim-nano")) == "sim-large"
    sim.requests()
    half, none = fleet.key(denied_models=["sim-large"]), fleet.key(models=["sim-nano"])
    sim.reset()
    sim.behave("status=500", "sim-nano")
    assert answered_by(fleet.chat(half.secret, "sim-nano")) == "sim-small"
    assert fleet.chat(none.secret, "sim-nano").status in (502, 503)
    answer = fleet.chat(none.secret, "sim-nano", fallbacks=["sim-large"])
    assert answer.status >= 400
    assert fleet.chat(none.secret, "auto").status in (502, 503)
    assert "sim-large" not in seen(sim)
    sim.mend()


def test_profiles(fleet: Fleet, sim: SimulatorProcess) -> None:
    free, one, none = fleet.key(), fleet.key(profiles=["qui?k"]), fleet.key(profiles=[])

    def asked(key: Made, profile: str) -> list[int]:
        by_header = fleet.chat(key.secret, "auto", headers={"x-routeiq-profile": profile})
        return [
            by_header.status,
            fleet.chat(key.secret, profile).status,
            fleet.chat(key.secret, f"auto:{profile}").status,
        ]

    for key, quick, quiet in ((free, 200, 200), (one, 200, 403), (none, 403, 403)):
        assert asked(key, "quick") == [quick] * 3
        assert asked(key, "quiet") == [quiet] * 3
        assert fleet.chat(key.secret, "auto").status == 200
    answer = fleet.chat(one.secret, "auto", headers={"x-routeiq-profile": "quiet"})
    assert_error(answer, 403, "permission_denied", says="quiet", param="x-routeiq-profile")
    answer = fleet.chat(one.secret, "auto:quiet")
    assert_error(answer, 403, "permission_denied", says="quiet", param="model")


@pytest.mark.parametrize(("may_hint", "followed"), [(None, True), (True, True), (False, None)])
def test_may_hint(fleet: Fleet, may_hint: bool | None, followed: bool | None) -> None:
    key = fleet.key(**({} if may_hint is None else {"may_hint": may_hint}))
    plain = answered_by(fleet.chat(key.secret, "auto", "What is 2 + 2?"))
    hint = next(one for one in OTHER_MODELS if one != plain)
    answer = fleet.chat(key.secret, "auto", "What is 2 + 2?", headers={"x-routeiq-hint": hint})
    assert answered_by(answer) == (hint if followed else plain)
    assert record(fleet, answer)["hint_followed"] is followed


def test_the_nearest_level_says_whether_hints_count(fleet: Fleet) -> None:
    team = fleet.make("team", settings={"may_hint": False})
    deaf, open_ = fleet.make("key", team=team.id), fleet.make("key", team=team.id)
    fleet.change(open_, settings={"may_hint": True})
    for key, followed in ((deaf, None), (open_, True)):
        answer = fleet.chat(key.secret, "auto", headers={"x-routeiq-hint": "sim-large"})
        assert record(fleet, answer)["hint_followed"] is followed


def record(fleet: Fleet, answer: Answer) -> dict[str, Any]:
    """The decision's record, once it is stored."""
    path = f"/decisions/{answer.headers['x-routeiq-decision-id']}"
    found: list[Answer] = []

    def stored() -> bool:
        found[:] = [fleet.admin(path)]
        return found[0].status == 200

    until(stored, "the record is stored", 2.0)
    shown: dict[str, Any] = found[0].json()
    return shown


def test_tags_reach_routing_and_records(fleet: Fleet, sim: SimulatorProcess) -> None:
    team = fleet.make("team", settings={"tags": ["crew"]})
    key = fleet.make("key", team=team.id, settings={"tags": ["blue"]})
    answer = fleet.chat(key.secret, "tagged", headers={"x-routeiq-tags": "mine"})
    assert answer.headers["x-routeiq-deployment"] == "tagged-blue"
    found = record(fleet, answer)
    assert found["tags"] == ["blue", "crew", "mine"]
    assert (found["key"], found["key_id"]) == (key.alias, key.id)
    assert (found["user"], found["team"]) == (None, team.id)
    plain = fleet.chat(fleet.key().secret, "tagged")
    assert plain.headers["x-routeiq-deployment"] == "tagged-plain"
    assert record(fleet, plain)["tags"] == []


ROUTES = {
    "/keys": "keys.read",
    "/users": "users.read",
    "/teams": "teams.read",
    "/status": "status.read",
    "/config": "config.read",
    "/models": "models.read",
    "/strategies": "strategies.read",
    "/strategies/active": "strategies.read",
    "/breakers": "breakers.read",
    "/workers": "status.read",
    "/audit": "audit.read",
    "/decisions": "decisions.read",
    "/experiments": "experiments.read",
    "/limits?key=nobody": "limits.read",
    "/budgets?key=nobody": "budgets.read",
}


@pytest.mark.parametrize(
    "permissions", [(), ("*",), ("keys.read",), ("keys.*", "audit.read"), ("status.write",)]
)
def test_permissions_open_their_routes_and_no_other(
    fleet: Fleet, permissions: tuple[str, ...]
) -> None:
    key = fleet.key(permissions=list(permissions))
    for path, needed in ROUTES.items():
        namespace = needed.partition(".")[0] + ".*"
        may = bool({"*", needed, namespace} & set(permissions))
        answer = fleet.admin(path, key=key.secret)
        if may:
            assert answer.status == (404 if "nobody" in path else 200), (path, answer.body)
        else:
            assert_error(answer, 403, "permission_denied", says=needed)
        assert fleet.admin(path, key="sk-riq-unknown").status == 401
    writes = [
        ("POST", "/keys", {"alias": f"by-{key.alias}"}, "keys.write", 201),
        ("PUT", "/breakers/sim-nano", {"override": None}, "breakers.write", 200),
        ("POST", "/teams", {"alias": f"by-{key.alias}"}, "teams.write", 201),
    ]
    for method, path, body, needed, good in writes:
        may = bool({"*", needed, needed.partition(".")[0] + ".*"} & set(permissions))
        answer = fleet.admin(path, body, method=method, key=key.secret)
        assert answer.status == (good if may else 403), (path, answer.body)
    assert fleet.lines[0].send("/v1/models", headers=bearer(key.secret)).status == 200


def test_nobody_hands_out_more_than_they_have(fleet: Fleet) -> None:
    clerk = fleet.key(permissions=["keys.*", "users.*", "teams.*"])
    boss = fleet.key(permissions=["*"])
    mighty = fleet.make("team", settings={"permissions": ["audit.read"]})

    def status(method: str, path: str, body: Any = None, key: str = clerk.secret) -> int:
        return fleet.admin(path, body, method=method, key=key).status

    for permission in ("*", "audit.read", "keys.read"):
        body = {"alias": f"x-{permission}", "settings": {"permissions": [permission]}}
        assert status("POST", "/keys", body) == (201 if permission == "keys.read" else 403)
    assert status("POST", "/keys", {"alias": "in-mighty", "team": mighty.id}) == 403
    own = fleet.make("key", by=clerk.secret)
    assert status("PATCH", f"/keys/{own.id}", {"settings": {"permissions": ["*"]}}) == 403
    assert status("PATCH", f"/keys/{own.id}", {"team": mighty.id}) == 403
    assert status("PATCH", f"/keys/{clerk.id}", {"settings": {"permissions": ["*"]}}) == 403
    for action in ("rotate", "revoke"):
        assert status("POST", f"/keys/{boss.id}/{action}", {}) == 403
    assert status("DELETE", f"/keys/{boss.id}") == 403
    for kind in ("user", "team"):
        body = {"alias": f"too-much-{kind}", "settings": {"permissions": ["audit.read"]}}
        assert status("POST", f"/{kind}s", body) == 403
    mine = fleet.make("team", by=clerk.secret)
    grant = {"settings": {"permissions": ["config.*"]}}
    assert status("PATCH", f"/teams/{mine.id}", grant) == 403
    assert fleet.read(f"/keys/{boss.id}")["status"] == "active"
    assert fleet.chat(boss.secret).status == 200
    assert status("PATCH", f"/teams/{mine.id}", grant, boss.secret) == 200
    assert fleet.admin("/audit", key=own.secret).status == 403


def test_a_denied_request_reaches_nobody_and_costs_nothing(
    fleet: Fleet, sim: SimulatorProcess
) -> None:
    key = fleet.key(models=["sim-small"], limits={"requests_per_minute": 2})
    answer = fleet.lines[0].send(
        CHAT,
        {"model": "sim-large", "messages": [{"role": "user", "content": "no"}]},
        headers=bearer(key.secret),
    )
    assert_error(answer, 403, "permission_denied")
    assert sim.requests() == []
    assert fleet.used(key, "requests") == 0
