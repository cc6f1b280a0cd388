from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from routeiq.cli.admin_api import AdminApi, AdminApiError, path_of
from routeiq.cli.keys import keys
from routeiq.cli.teams import teams
from routeiq.cli.users import users

VIEW = {
    "id": "key-1",
    "kind": "key",
    "alias": "app",
    "source": "store",
    "status": "active",
    "version": 1,
    "settings": {"tags": ["a"]},
    "prefix": "sk-riq-abcdef",
    "user": None,
    "team": "team-1",
    "revoked_at": "2027-01-15T08:00:00Z",
}


class Gateway:
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    def answer(self, body: Any, status: int = 200) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.append((status, raw))


@contextmanager
def serving() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_ANY(self) -> None:
            length = int(self.headers.get("content-length", 0))
            raw = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.asked.append(
                (self.command, self.path, headers, json.loads(raw) if raw else None)
            )
            status, body = served.answers.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = do_ANY

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Gateway(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as gateway:
        yield gateway


def invoke(gateway: Gateway, command: click.Command, *arguments: str) -> Result:
    env = {"ROUTEIQ_URL": gateway.url, "LITELLM_MASTER_KEY": "sk-master"}
    return CliRunner().invoke(command, arguments, env=env)


def ok(gateway: Gateway, command: click.Command, *arguments: str) -> str:
    done = invoke(gateway, command, *arguments)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.output


def test_every_setting_has_an_option(gateway: Gateway) -> None:
    gateway.answer({**VIEW, "secret": "sk-riq-secret"}, 201)
    said = ok(
        gateway,
        keys,
        *("create", "app", "--team", "research", "--model", "gpt-*", "--model", "claude"),
        *("--deny", "gpt-5", "--profile", "cheap", "--rpm", "60", "--tpm", "1000"),
        *("--concurrent", "4", "--budget", "10usd/day", "--budget", "2.5USD/total"),
        *("--token-budget", "2m/week", "--permission", "keys.read", "--tag", "a", "--no-hint"),
        *("--metadata", "owner=ann=x", "--expires", "30d", "--fail-closed"),
    )
    assert "sk-riq-secret" in said
    assert "only time" in said
    ((method, path, headers, body),) = gateway.asked
    assert (method, path) == ("POST", "/routeiq/v1/keys")
    assert headers["authorization"] == "Bearer sk-master"
    limits = {"requests_per_minute": 60, "tokens_per_minute": 1000, "concurrent_requests": 4}
    assert body == {
        "alias": "app",
        "team": "research",
        "expires": "30d",
        "settings": {
            "models": ["gpt-*", "claude"],
            "denied_models": ["gpt-5"],
            "profiles": ["cheap"],
            "permissions": ["keys.read"],
            "tags": ["a"],
            "limits": {**limits, "fail": "closed"},
            "budgets": [
                {"usd": 10.0, "per": "day", "fail": "closed"},
                {"usd": 2.5, "per": "total", "fail": "closed"},
                {"tokens": 2_000_000, "per": "week", "fail": "closed"},
            ],
            "may_hint": False,
            "metadata": {"owner": "ann=x"},
        },
    }


def test_what_is_not_given_is_not_sent(gateway: Gateway) -> None:
    gateway.answer(VIEW, 201)
    ok(gateway, teams, "create", "core")
    assert gateway.asked[0][3] == {"alias": "core"}


def test_the_other_commands_ask_for_what_they_say(gateway: Gateway) -> None:
    for _ in range(7):
        gateway.answer({**VIEW, "secret": "sk-riq-new", "deleted": True})
    assert "tags: [" in ok(gateway, keys, "show", "my app/1")
    assert "60 more seconds" in ok(gateway, keys, "rotate", "app", "--grace", "60")
    assert "revoked key-1" in ok(gateway, keys, "revoke", "app")
    assert "deleted key-1" in ok(gateway, keys, "delete", "app")
    ok(gateway, users, "update", "eve", "--team", "core", "--disable", "--if-version", "3")
    ok(gateway, users, "create", "eve", "--team", "core")
    ok(gateway, teams, "delete", "core")
    asked = [(method, path, body) for method, path, _, body in gateway.asked]
    assert asked == [
        ("GET", "/routeiq/v1/keys/my%20app%2F1", None),
        ("POST", "/routeiq/v1/keys/app/rotate", {"grace": 60.0}),
        ("POST", "/routeiq/v1/keys/app/revoke", None),
        ("DELETE", "/routeiq/v1/keys/app", None),
        ("PATCH", "/routeiq/v1/users/eve", {"team": "core", "settings": {"disabled": True}}),
        ("POST", "/routeiq/v1/users", {"alias": "eve", "team": "core"}),
        ("DELETE", "/routeiq/v1/teams/core", None),
    ]
    assert gateway.asked[4][2]["if-match"] == '"3"'


def test_a_list_is_followed_to_its_end(gateway: Gateway) -> None:
    declared = {**VIEW, "id": "config:bot", "source": "config"}
    gateway.answer({"data": [declared], "next": "config:bot"})
    gateway.answer({"data": [VIEW], "next": None})
    said = ok(gateway, keys, "list", "--team", "core")
    assert [path for _, path, _, _ in gateway.asked] == [
        "/routeiq/v1/keys?limit=1000&team=core",
        "/routeiq/v1/keys?limit=1000&after=config%3Abot&team=core",
    ]
    first, second = said.splitlines()
    assert "source=config" in first
    assert "prefix=sk-riq-abcdef  team=team-1" in second
    gateway.answer({"data": [], "next": None})
    assert "there is no user yet" in ok(gateway, users, "list")


def test_json_is_for_programs(gateway: Gateway) -> None:
    gateway.answer(VIEW)
    assert json.loads(ok(gateway, keys, "show", "app", "--json")) == VIEW


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "a", "--budget", "10"), "10usd/day"),
        (("create", "a", "--budget", "10eur/day"), "10usd/day"),
        (("create", "a", "--token-budget", "many"), "2m/day"),
        (("create", "a", "--metadata", "x"), "name=text"),
        (("create", "a", "--rpm", "0"), "range"),
        (("update", "a"), "Say what to change"),
        (("rotate", "a", "--grace", "-1"), "range"),
    ],
)
def test_wrong_options_never_reach_the_gateway(
    gateway: Gateway, arguments: tuple[str, ...], says: str
) -> None:
    done = invoke(gateway, keys, *arguments)
    assert done.exit_code == 2
    assert says in done.output
    assert gateway.asked == []


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, {"error": {"message": "No key 'x'.", "code": "not_found"}}, "No key 'x'."),
        (401, {"error": {"message": "Incorrect.", "code": "invalid_api_key"}}, "--admin-key"),
        (502, b"<html>", "no answer of RouteIQ's admin API"),
        (200, b"<html>", "no answer of RouteIQ's admin API"),
        (500, [1], "answered 500"),
    ],
)
def test_errors_are_said_plainly(gateway: Gateway, status: int, body: Any, says: str) -> None:
    gateway.answer(body, status)
    done = invoke(gateway, keys, "show", "x")
    assert done.exit_code == 1
    assert says in done.output


def test_the_api_tells_its_callers_status_and_code(gateway: Gateway) -> None:
    gateway.answer({"error": {"message": "Changed.", "code": "precondition_failed"}}, 412)
    with pytest.raises(AdminApiError) as caught:
        AdminApi(gateway.url + "/prefix/", None).call("PATCH", "/control/x", {}, 1)
    assert (caught.value.status, caught.value.code) == (412, "precondition_failed")
    _, path, headers, _ = gateway.asked[0]
    assert path == "/prefix/routeiq/v1/control/x"
    assert "authorization" not in headers


@pytest.mark.parametrize("url", ["", "localhost:4000", "ftp://x", "http://x:port", "http://"])
def test_a_url_must_be_one(url: str) -> None:
    with pytest.raises(AdminApiError):
        AdminApi(url, None)


def test_no_gateway_and_no_key_are_told_apart(gateway: Gateway) -> None:
    with pytest.raises(AdminApiError, match="admin key"):
        AdminApi(gateway.url, "ключ").call("GET", "/keys")
    with pytest.raises(AdminApiError, match="admin key"):
        AdminApi(gateway.url, "a\nb").call("GET", "/keys")
    with pytest.raises(AdminApiError, match="routeiq serve"):
        AdminApi("http://127.0.0.1:1", "k").call("GET", "/keys")


def test_paths_are_quoted() -> None:
    assert path_of("keys", "a/b", "rotate") == "/keys/a%2Fb/rotate"
    assert path_of("keys", limit=3, team=None) == "/keys?limit=3"
