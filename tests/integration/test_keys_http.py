"""Keys over HTTP: made, shown once, rotated, revoked, disabled, expired, on every worker of every gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.integration.access import (
    Fleet,
    bearer,
    models,
    shared_fleet,
    sqlite_fleet,
    until,
)
from tests.integration.helpers import assert_error, write
from tests.support.processes import MASTER_KEY, SimulatorProcess

DECLARED = "sk-declared-in-the-file"
EVERYWHERE_S = 1.0
"""A change of a key is in force on every worker within this time."""


def config(folder: Path, simulator: SimulatorProcess) -> Path:
    """Declared keys of all sorts beside the catalogue."""
    access = {
        "defaults": {"limits": {"requests_per_minute": 5000}, "denied_models": ["sim-nano"]},
        "teams": {"ops": {"tags": ["ops"]}, "closed": {"disabled": True}},
        "users": {"olga": {"team": "ops"}},
        "keys": {
            "dashboard": {"key": DECLARED, "user": "olga", "permissions": ["keys.read"]},
            "old": {"key": "sk-declared-and-expired", "expires": "2020-01-31"},
            "off": {"key": "sk-declared-and-disabled", "disabled": True},
            "of-closed": {"key": "sk-declared-of-closed", "team": "closed"},
            "later": {"key": "sk-declared-for-long", "expires": "2999-01-31"},
        },
    }
    found = {"model_list": models(simulator.url), "routeiq": {"access": access}}
    return write(folder, found)


@pytest.fixture(scope="module")
def sqlite(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    with sqlite_fleet(config(tmp_path_factory.mktemp("sqlite"), simulator)) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Fleet]:
    with shared_fleet(config(tmp_path_factory.mktemp("shared"), simulator)) as fleet:
        yield fleet


@pytest.fixture(params=["sqlite", "shared"])
def fleet(request: pytest.FixtureRequest) -> Fleet:
    found: Fleet = request.getfixturevalue(request.param)
    return found


def all_say(fleet: Fleet, secret: str, status: int) -> bool:
    return set(fleet.statuses(secret)) == {status}


def count(fleet: Fleet) -> int:
    return len(fleet.gateways) * fleet.workers


def test_a_new_key_works_at_once_on_every_worker(fleet: Fleet) -> None:
    for _ in range(5):
        key = fleet.key()
        assert key.secret.startswith("sk-riq-")
        assert fleet.statuses(key.secret) == [200] * count(fleet)


def test_a_key_that_was_refused_before_it_existed_is_refused_for_its_seal_only(
    fleet: Fleet,
) -> None:
    key = fleet.key()
    wrong = key.secret[:-1] + ("a" if key.secret[-1] != "a" else "b")
    for secret in (wrong, "sk-riq-", "sk-riq-" + "x" * 40, "nonsense", key.id, key.view["prefix"]):
        assert fleet.statuses(secret) == [401] * count(fleet)
    answer = fleet.chat(wrong)
    assert_error(answer, 401, "invalid_api_key")
    assert wrong.encode() not in answer.body
    assert fleet.statuses(key.secret) == [200] * count(fleet)


def test_the_ways_to_send_a_key(sqlite: Fleet) -> None:
    secret = sqlite.key().secret
    for headers in (bearer(secret), {"x-api-key": secret}, {"api-key": secret}):
        line = sqlite.lines[0]
        assert line.send("/v1/models", headers=headers).status == 200
    assert sqlite.lines[0].send("/v1/models").status == 401


def stored_bytes(fleet: Fleet) -> bytes:
    """Everything that the database holds."""
    if fleet.redis is None:
        path = Path(fleet.database)
        return b"".join(one.read_bytes() for one in path.parent.glob(path.name + "*"))
    with psycopg.connect(fleet.database) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        found = [
            connection.execute(f"SELECT t::text FROM {name} t".encode()).fetchall()
            for (name,) in tables
        ]
    return repr(found).encode()


def test_a_secret_is_seen_once_and_stays_nowhere(fleet: Fleet) -> None:
    key = fleet.key()
    assert fleet.chat(key.secret).status == 200
    rotated = fleet.admin(f"/keys/{key.id}/rotate", {"grace": 60}).json()["secret"]
    assert fleet.chat(rotated).status == 200
    audited = fleet.audit(key.id)
    assert [row["action"] for row in audited] == ["keys.create", "keys.rotate"]
    decisions = fleet.read("/decisions?limit=100")
    seen = [fleet.read(f"/keys/{key.id}"), fleet.read("/keys?limit=1000"), fleet.read("/config")]
    seen += [fleet.change(key, settings={"tags": ["x"]}), fleet.read("/audit"), decisions]
    for secret in (key.secret, rotated):
        assert secret not in repr(seen)
        assert secret not in fleet.logs()
        assert secret.encode() not in stored_bytes(fleet)
    assert key.id.encode() in stored_bytes(fleet), "the search itself finds what is there"
    assert fleet.read(f"/keys/{key.id}")["prefix"] == rotated[: len(key.view["prefix"])]
    assert fleet.chat(key.view["prefix"]).status == 401


def test_the_answer_with_a_secret_may_not_be_cached(sqlite: Fleet) -> None:
    answer = sqlite.admin("/keys", {"alias": "not-for-caches"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"] == '"1"'


def test_a_revoked_key_is_refused_everywhere_in_a_second(fleet: Fleet) -> None:
    for _ in range(3):
        key = fleet.key()
        assert all_say(fleet, key.secret, 200)
        view = fleet.admin(f"/keys/{key.id}/revoke", {}).json()
        until(lambda key=key: all_say(fleet, key.secret, 401), "refused", EVERYWHERE_S)  # type: ignore[misc]
        assert view["status"] == "revoked"
        assert "revoked" in assert_error(fleet.chat(key.secret), 401)["message"]
        assert fleet.admin(f"/keys/{key.id}/rotate", {}).status == 409
        assert fleet.read(f"/keys/{key.id}")["status"] == "revoked"


def test_a_deleted_key_is_refused_everywhere(fleet: Fleet) -> None:
    key = fleet.key()
    assert all_say(fleet, key.secret, 200)
    assert fleet.admin(f"/keys/{key.id}", method="DELETE").json() == {
        "id": key.id,
        "deleted": True,
    }
    until(lambda: all_say(fleet, key.secret, 401), "refused", EVERYWHERE_S)
    assert fleet.admin(f"/keys/{key.id}").status == 404


def test_a_rotated_key_has_its_new_secret_only(fleet: Fleet) -> None:
    key = fleet.key()
    assert all_say(fleet, key.secret, 200)
    view = fleet.admin(f"/keys/{key.alias}/rotate", {}).json()
    assert fleet.statuses(view["secret"]) == [200] * count(fleet)
    until(lambda: all_say(fleet, key.secret, 401), "the old one is refused", EVERYWHERE_S)
    assert (view["id"], view["old_secret_until"]) == (key.id, None)
    assert "replaced" in assert_error(fleet.chat(key.secret), 401)["message"]


def test_the_old_secret_holds_for_the_grace(sqlite: Fleet) -> None:
    fleet, key = sqlite, sqlite.key()
    begun = time.monotonic()
    grace = 3.0
    view = fleet.admin(f"/keys/{key.id}/rotate", {"grace": grace}).json()
    assert fleet.statuses(view["secret"]) == [200] * count(fleet)
    before = fleet.statuses(key.secret)
    if time.monotonic() - begun < grace:
        assert before == [200] * count(fleet)
    assert view["old_secret_until"] is not None
    until(lambda: all_say(fleet, key.secret, 401), "the grace ends", grace)
    assert time.monotonic() - begun >= grace - 0.1
    assert fleet.statuses(view["secret"]) == [200] * count(fleet)
    for wrong in (-1, "soon", True, 40 * 86_400):
        assert fleet.admin(f"/keys/{key.id}/rotate", {"grace": wrong}).status == 400


@pytest.mark.parametrize("kind", ["key", "user", "team"])
def test_disabled_at_any_level_is_refused_until_enabled_again(fleet: Fleet, kind: str) -> None:
    team = fleet.make("team")
    user = fleet.make("user", team=team.id)
    key = fleet.make("key", user=user.alias)
    other = fleet.make("key", team=team.alias) if kind == "user" else fleet.key()
    subject = {"key": key, "user": user, "team": team}[kind]
    assert all_say(fleet, key.secret, 200)
    assert fleet.change(subject, settings={"disabled": True})["status"] == "disabled"
    until(lambda: all_say(fleet, key.secret, 401), "refused", EVERYWHERE_S)
    assert "disabled" in assert_error(fleet.chat(key.secret), 401)["message"]
    assert all_say(fleet, other.secret, 200)
    assert fleet.change(subject, settings={"disabled": False})["status"] == "active"
    until(lambda: all_say(fleet, key.secret, 200), "let in again", EVERYWHERE_S)


def test_a_key_ends_when_it_or_who_it_belongs_to_expires(sqlite: Fleet) -> None:
    end = datetime.now(UTC) + timedelta(seconds=3)
    soon = {"expires": end.isoformat()}
    ending = {kind: sqlite.make(kind, **soon) for kind in ("key", "user", "team")}
    keys = {
        "key": ending["key"],
        "user": sqlite.make("key", user=ending["user"].id),
        "team": sqlite.make("key", team=ending["team"].id),
    }
    first = [all_say(sqlite, key.secret, 200) for key in keys.values()]
    assert all(first) or datetime.now(UTC) >= end
    for kind, key in keys.items():
        until(lambda key=key: all_say(sqlite, key.secret, 401), "it expires", 4.0)  # type: ignore[misc]
        assert datetime.now(UTC) >= end
        assert "expired" in assert_error(sqlite.chat(key.secret), 401)["message"]
        assert sqlite.read(f"/{kind}s/{ending[kind].id}")["status"] == "expired"
        sqlite.change(ending[kind], expires="30d")
        until(lambda key=key: all_say(sqlite, key.secret, 200), "it goes on", EVERYWHERE_S)  # type: ignore[misc]
    path = f"/keys/{keys['key'].id}"
    assert sqlite.admin(path, {"expires": "2020-01-01"}, method="PATCH").status == 400


def test_a_change_needs_the_version_that_was_seen(fleet: Fleet) -> None:
    key = fleet.key()
    path = f"/keys/{key.id}"

    def patch(version: str | None, tag: str) -> int:
        headers = {} if version is None else {"if-match": version}
        body = {"settings": {"tags": [tag]}}
        return fleet.admin(path, body, method="PATCH", headers=headers).status

    assert fleet.admin(path).headers["etag"] == '"1"'
    assert [patch('"1"', "a"), patch('"1"', "b"), patch('"7"', "c")] == [200, 412, 412]
    assert fleet.read(path)["settings"] == {"tags": ["a"]}
    assert [patch('"2"', "d"), patch("*", "e"), patch(None, "f")] == [200, 200, 200]
    assert patch("three", "g") == 400
    stale = {"if-match": '"1"'}
    for method, where, body in (
        ("DELETE", path, None),
        ("POST", f"{path}/revoke", {}),
        ("POST", f"{path}/rotate", {}),
    ):
        assert fleet.admin(where, body, method=method, headers=stale).status == 412
    assert fleet.read(path)["version"] == 5
    assert fleet.chat(key.secret).status == 200


def test_declared_keys_work_and_cannot_be_changed(fleet: Fleet) -> None:
    assert fleet.statuses(DECLARED) == [200] * count(fleet)
    assert all_say(fleet, "sk-declared-for-long", 200)
    for secret, why in {
        "sk-declared-and-expired": "expired",
        "sk-declared-and-disabled": "disabled",
        "sk-declared-of-closed": "disabled",
    }.items():
        assert why in assert_error(fleet.chat(secret), 401)["message"]
    listed = {one["alias"]: one for one in fleet.read("/keys")["data"] if one["source"] == "config"}
    assert {name: one["status"] for name, one in listed.items()} == {
        "dashboard": "active",
        "old": "expired",
        "off": "disabled",
        "of-closed": "active",
        "later": "active",
    }
    assert listed["dashboard"]["user"] == "config:olga"
    assert fleet.read("/users/olga")["team"] == "config:ops"
    assert DECLARED not in repr(listed)
    assert fleet.admin("/keys", key=DECLARED).status == 200
    for method, path, body in (
        ("PATCH", "/keys/config:dashboard", {"settings": {"disabled": True}}),
        ("DELETE", "/keys/config:dashboard", None),
        ("POST", "/keys/config:dashboard/revoke", {}),
        ("DELETE", "/teams/config:ops", None),
        ("POST", "/keys", {"alias": "dashboard"}),
    ):
        assert_error(fleet.admin(path, body, method=method), 409, says="config.yaml")
    assert fleet.admin("/keys", {"alias": "k", "team": "config:ops"}).status == 400


def test_defaults_hold_for_every_key_and_for_no_admin(fleet: Fleet) -> None:
    limit = "x-ratelimit-limit-requests"
    own = fleet.key(limits={"requests_per_minute": 7})
    for secret, least in ((fleet.key().secret, "5000"), (DECLARED, "5000"), (own.secret, "7")):
        assert fleet.chat(secret).headers[limit] == least
        assert fleet.chat(secret, "sim-nano").status == 403
    assert limit not in fleet.chat(MASTER_KEY).headers
    assert fleet.chat(MASTER_KEY, "sim-nano").status == 200


def test_who_has_members_stays(sqlite: Fleet) -> None:
    team = sqlite.make("team")
    user = sqlite.make("user", team=team.id)
    key = sqlite.make("key", user=user.id)
    for made in (team, user):
        assert sqlite.admin(f"/{made.kind}s/{made.id}", method="DELETE").status == 409
    for made in (key, user, team):
        assert sqlite.admin(f"/{made.kind}s/{made.id}", method="DELETE").status == 200


def test_an_alias_is_there_once(sqlite: Fleet) -> None:
    key = sqlite.key()
    for alias in (key.alias, "master", "sk-riq-like-a-secret", "", " x"):
        assert sqlite.admin("/keys", {"alias": alias}).status in (400, 409)


def test_every_change_leaves_one_audit_row(fleet: Fleet) -> None:
    admin = fleet.key(permissions=["keys.*", "users.*", "teams.*"])
    by = bearer(admin.secret)
    made = [fleet.make(kind, by=admin.secret) for kind in ("key", "user", "team")]
    for one in made:
        path = f"/{one.kind}s/{one.id}"
        body = {"settings": {"metadata": {"note": "changed"}}}
        headers = {**by, "x-request-id": f"req-{one.id}"}
        assert fleet.admin(path, body, method="PATCH", headers=headers).status == 200
    key = made[0]
    for action in ("rotate", "revoke"):
        assert fleet.admin(f"/keys/{key.id}/{action}", {}, headers=by).status == 200
    for one in made:
        assert fleet.admin(f"/{one.kind}s/{one.id}", method="DELETE", headers=by).status == 200
    refused = fleet.admin(f"/keys/{admin.id}", {"alias": 7}, method="PATCH", headers=by)
    assert refused.status == 400
    for one in made:
        rows = fleet.audit(one.id)
        kind = f"{one.kind}s"
        extra = ["keys.rotate", "keys.revoke"] if one.kind == "key" else []
        actions = [f"{kind}.create", f"{kind}.update", *extra, f"{kind}.delete"]
        assert [row["action"] for row in rows] == actions
        assert {row["actor"] for row in rows} == {admin.alias}
        assert rows[1]["request_id"] == f"req-{one.id}"
        assert rows[1]["details"]["settings"] == {"metadata": {"note": "changed"}}
        assert all(abs(row["time"] - datetime.now(UTC).timestamp()) < 600 for row in rows)
    assert [row["action"] for row in fleet.audit(admin.id)] == ["keys.create"]
    assert fleet.audit(admin.id)[0]["actor"] == "master"
    assert MASTER_KEY not in repr(fleet.audit(*(one.id for one in made)))
