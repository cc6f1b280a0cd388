from __future__ import annotations

from typing import Any

import orjson
import pytest

from routeiq.config.model import Config, DeploymentConfig, RouterConfig
from routeiq.config.section import Price, Resilience, RouteIQSection, Upstreams
from routeiq.config.settings import Settings
from routeiq.exceptions import ConfigError, EgressDenied
from routeiq.gateway.app import Gateway
from routeiq.gateway.asgi import Message
from routeiq.gateway.body import ClientDisconnected
from routeiq.gateway.breaking import threshold
from routeiq.gateway.openapi import document
from routeiq.gateway.runtime import Runtime, address_rules, build, call_settings, masked
from tests.support.clock import FakeClock

KEY = "sk-master-secret"


def deployment(**changes: Any) -> DeploymentConfig:
    base: dict[str, Any] = {
        "key": "model_list[0]",
        "id": "small-1",
        "group": "small",
        "model": "openai/small",
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "sk-upstream-secret",
    }
    return DeploymentConfig(**(base | changes))


def config(**changes: Any) -> Config:
    prices = {"small": Price(input_usd_per_mtok=1, output_usd_per_mtok=1)}
    base: dict[str, Any] = {
        "settings": Settings(admin_keys=("sk-admin-secret",), master_key=KEY),
        "deployments": (deployment(),),
        "routeiq": RouteIQSection(prices=prices),
        "master_key": KEY,
    }
    return Config(**(base | changes))


@pytest.fixture
def runtime(clock: FakeClock) -> Runtime:
    return build(config(), clock=clock)


async def ask(
    gateway: Gateway, path: str, *, key: str = KEY, method: str = "GET", body: bytes | None = None
) -> tuple[int, Any]:
    sent: list[Message] = []

    async def receive() -> Message:
        if body is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
    }
    await gateway.app(scope, receive, send)
    return (sent[0]["status"], orjson.loads(sent[1]["body"])) if sent else (0, None)


def test_nothing_secret_is_in_the_shown_configuration() -> None:
    shown = orjson.dumps(masked(config()), default=str).decode()
    assert "secret" not in shown
    settings = masked(config())["settings"]
    assert (settings["master_key"], settings["admin_keys"]) == ("set", 1)
    assert masked(config(master_key=None))["settings"]["master_key"] is None


@pytest.mark.parametrize(("allowed", "failures"), [(None, 7), (0, 1), (3, 4)])
def test_failures_that_open_a_breaker(allowed: int | None, failures: int) -> None:
    made = config(
        settings=Settings(cb_failure_threshold=7), router=RouterConfig(allowed_fails=allowed)
    )
    assert threshold(made) == failures


def test_timeouts_own_first_then_the_routers_then_the_defaults() -> None:
    defaults = call_settings(deployment(), config())
    assert (defaults.plain.first_byte_s, defaults.plain.total_s) == (600.0, None)
    assert defaults.max_retries == 2
    router = config(
        router=RouterConfig(timeout_s=30.0, stream_timeout_s=9.0, num_retries=1),
        routeiq=RouteIQSection(upstreams=Upstreams(total_timeout_s=99.0)),
    )
    ours = call_settings(deployment(), router)
    assert (ours.plain.first_byte_s, ours.plain.total_s) == (30.0, 30.0)
    assert (ours.stream.first_byte_s, ours.stream.total_s) == (9.0, 99.0)
    own = call_settings(deployment(timeout_s=3.0, max_retries=0), router)
    assert (own.plain.total_s, own.stream.first_byte_s, own.max_retries) == (3.0, 9.0, 0)
    assert call_settings(deployment(stream_timeout_s=1.0), router).stream.first_byte_s == 1.0


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({}, False),
        ({"ssrf_allow_private": True}, True),
        ({"ssrf_cidr_allowlist": ("10.0.0.0/8",)}, True),
        ({"ssrf_host_allowlist": ("*.internal",)}, True),
        ({"ssrf_host_allowlist": ("other",)}, False),
    ],
)
def test_address_rules_are_the_settings(settings: dict[str, Any], passes: bool) -> None:
    rules = address_rules(config(settings=Settings(**settings)))
    if passes:
        rules.check_address("llm.internal", "10.1.2.3")
    else:
        with pytest.raises(EgressDenied):
            rules.check_address("llm.internal", "10.1.2.3")


def test_without_a_deployment_nothing_is_built() -> None:
    with pytest.raises(ConfigError, match="no deployment"):
        build(config(deployments=()))


def test_every_wrong_deployment_is_named() -> None:
    wrong = (deployment(model="nope/x", api_base=None), deployment(api_key=None, id="b"))
    with pytest.raises(ConfigError) as raised:
        build(config(deployments=wrong, settings=Settings()))
    assert len(raised.value.problems) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("draining", [True, False])
async def test_probes(runtime: Runtime, started: bool, draining: bool) -> None:
    gateway = Gateway(runtime)
    gateway.health.started = started
    if draining:
        runtime.admission.drain()
    assert await ask(gateway, "/_health/live", key="none") == (200, {"status": "alive"})
    status, body = await ask(gateway, "/_health/ready", key="none")
    expected = "draining" if draining else "ready" if started else "starting"
    assert (status, body["status"]) == (200 if expected == "ready" else 503, expected)
    startup, _ = await ask(gateway, "/_health/startup", key="none")
    assert startup == (200 if started else 503)
    await runtime.close()


@pytest.mark.anyio
async def test_a_defect_of_ours_is_a_500_without_details(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("secret detail")

    gateway = Gateway(runtime)
    monkeypatch.setattr(runtime.catalog, "names", broken)
    status, body = await ask(gateway, "/v1/models")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "secret detail" not in str(body)
    assert "secret detail" in caplog.text
    await runtime.close()


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/routeiq/v1/route"])
async def test_a_client_that_left_gets_nothing_and_is_no_defect(
    runtime: Runtime, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(Gateway(runtime), path, method="POST") == (0, None)
    assert ClientDisconnected.__name__ not in caplog.text
    await runtime.close()


@pytest.mark.anyio
async def test_the_admin_api_needs_a_key_and_shows_what_runs(runtime: Runtime) -> None:
    gateway = Gateway(runtime)
    for path in ("status", "config", "models", "strategies", "decisions", "decisions/x"):
        assert (await ask(gateway, f"/routeiq/v1/{path}", key="wrong"))[0] == 401
    status, body = await ask(gateway, "/routeiq/v1/models")
    assert (status, body["data"][0]["deployment"], body["data"][0]["breaker"]) == (
        200,
        "small-1",
        "closed",
    )
    await runtime.close()


def test_every_documented_path_is_a_route(runtime: Runtime) -> None:
    gateway = Gateway(runtime)
    for path, methods in document()["paths"].items():
        for method in methods:
            scope = {"type": "http", "path": path.replace("{id}", "x"), "method": method.upper()}
            assert callable(gateway._generation.routes.find(scope)), path


def test_the_settings_of_resilience_reach_what_uses_them(clock: FakeClock) -> None:
    section = RouteIQSection(resilience=Resilience(breaker_window_s=5.0))
    made = build(
        config(routeiq=section, settings=Settings(cb_failure_threshold=2), router=RouterConfig()),
        clock=clock,
    )
    made.breakers.failure("small-1")
    clock.advance(6.0)
    made.breakers.failure("small-1")
    assert made.breakers.state("small-1") == "closed", "the first failure is too old to count"
    made.breakers.failure("small-1")
    assert made.breakers.state("small-1") == "open"
