from __future__ import annotations

import pytest

from routeiq.gateway.openapi import document
from routeiq.gateway.routes import RouteTable
from routeiq.gateway.services import admin_routes
from tests.support.clock import FakeClock
from tests.support.worlds import World, config_of

KEY = {"key": "application-key-secret"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> World:
    return World(monkeypatch, clock, config_of({"access": {"keys": {"app": KEY}}}))


def test_every_service_has_its_routes(world: World) -> None:
    found = admin_routes(world.runtime)
    parts = {path.removeprefix("/routeiq/v1/").partition("/")[0] for path in found}
    assert {
        "status",
        "config",
        "keys",
        "users",
        "teams",
        "usage",
        "experiments",
        "decisions",
        "feedback",
        "artifacts",
        "breakers",
        "strategies",
        "workers",
        "audit",
        "route",
        "openapi.json",
    } <= parts


def test_what_is_documented_is_a_route(world: World) -> None:
    table = RouteTable(admin_routes(world.runtime), {})
    known = {path for path in document()["paths"] if path.startswith("/routeiq/")}
    assert known
    for path in known:
        for method in document()["paths"][path]:
            scope = {"type": "http", "path": path, "method": method.upper()}
            assert callable(table.find(scope)), path


@pytest.mark.anyio
async def test_no_route_of_the_admin_api_lets_an_ordinary_key_in(world: World) -> None:
    """But those that are about the caller itself."""
    own = {"/routeiq/v1/route", "/routeiq/v1/openapi.json", "/routeiq/v1/feedback"}
    for path, methods in admin_routes(world.runtime).items():
        for method in methods:
            call = f"{method} {path.replace('{', '').replace('}', '')}"
            nobody = await world.ask(call, {}, key="nobody")
            assert nobody.status == 401 or path.endswith("openapi.json"), call
            app = await world.ask(call, {}, key=KEY["key"])
            if path not in own and app.status != 404:
                assert app.status == 403 or path.endswith("/usage"), (call, app.status)
