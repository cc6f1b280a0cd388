from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from routeiq.config.loader import load_config
from routeiq.config.model import Config
from routeiq.config.settings import Settings
from routeiq.exceptions import ConfigError, StoreUnavailable
from routeiq.gateway import reload as module
from routeiq.gateway.reload import Reloader, keep_fixed, only_at_start, stamp
from routeiq.gateway.runtime import Runtime
from tests.support.clock import FakeClock
from tests.support.upstreams import Answer
from tests.support.worlds import MASTER, World, config_of

pytestmark = pytest.mark.anyio
CONFIG = """
model_list:
  - model_name: small
    litellm_params: {model: openai/small, api_base: "http://provider.example/v1", api_key: k}
router_settings: {%s}
routeiq:
  prices: {small: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 1.0}}
%s
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "config.yaml"
    write(found)
    return found


def write(path: Path, section: str = "", router: str = "") -> None:
    path.write_text(CONFIG % (router, section))


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.005)


class Place:
    """A gateway that was started from the file, and its reloader."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, path: Path) -> None:
        monkeypatch.setenv("LITELLM_MASTER_KEY", MASTER)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
        self.world = World(monkeypatch, clock, load_config(str(path), os.environ))
        self.world.process.gateway = self.world.gateway
        self.built: list[Runtime] = []
        self.reloader = Reloader(
            self.world.gateway, build=self.build, prepare=self.world.process.prepare, clock=clock
        )

    def build(self, config: Config) -> Runtime:
        self.built.append(self.world.build(config))
        return self.built[-1]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, clock: FakeClock, path: Path) -> Place:
    return Place(monkeypatch, clock, path)


async def test_a_reload_puts_what_stands_there_now_in_force(place: Place, path: Path) -> None:
    old = place.world.runtime
    write(path, "  strategy: cost-aware")
    config = await place.reloader.reload("test")
    assert place.world.runtime is place.built[0]
    assert place.world.runtime.router.strategy_name == "cost-aware"
    assert config.digest == place.world.runtime.config.digest != old.config.digest
    status = place.reloader.status()
    assert (status["reloads"], status["failures"], status["problems"]) == (1, 0, [])
    assert status["reloaded_at"] == place.world.clock.wall()
    await place.world.gateway.closed()
    await place.world.runtime.close()


@pytest.mark.parametrize("section", ["  strategy: nonsense", "  nonsense: 1", "  strategy: ["])
async def test_what_cannot_be_used_changes_nothing(
    place: Place, path: Path, section: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = place.world.runtime
    write(path, section)
    with pytest.raises(ConfigError):
        await place.reloader.reload("test")
    assert place.world.runtime is old
    status = place.reloader.status()
    assert (status["reloads"], status["failures"], len(status["problems"])) == (0, 1, 1)
    assert "reload refused" in caplog.text
    assert (await place.world.chat()).status == 200
    write(path)
    await place.reloader.reload("test")
    assert place.reloader.status()["problems"] == []
    await place.world.gateway.closed()


async def test_a_defect_changes_nothing_either_and_nothing_is_left_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, closed = place.world.runtime, []

    async def close(runtime: Runtime) -> None:
        closed.append(runtime)

    async def fails(_: Runtime) -> None:
        raise ZeroDivisionError("theirs")

    monkeypatch.setattr(Runtime, "close", close)
    monkeypatch.setattr(place.reloader, "_prepare", fails)
    with pytest.raises(ZeroDivisionError):
        await place.reloader.reload("test")
    assert place.world.runtime is old
    assert closed == place.built
    assert place.reloader.status()["problems"] == ["ZeroDivisionError: theirs"]
    assert place.reloader.failures == 1


async def test_a_strategy_that_cannot_say_what_it_learned_fails_no_reload(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, "  strategy: linucb")
    await place.reloader.reload("test")

    def broken(_: Any) -> Any:
        raise ZeroDivisionError("theirs")

    strategies = place.world.runtime.router._strategies
    monkeypatch.setattr(type(strategies.get("linucb")), "snapshot", broken)
    await place.reloader.reload("test")
    assert place.reloader.reloads == 2
    await place.world.gateway.closed()
    await place.world.runtime.close()


async def test_requests_end_on_the_runtime_that_they_began_on(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, go, closed = place.world, asyncio.Event(), []
    old = world.runtime

    class Slow(Answer):
        async def read(self, limit: int | None = None) -> bytes:
            await go.wait()
            return await super().read(limit)

    real = Runtime.close

    async def close(runtime: Runtime) -> None:
        closed.append(runtime)
        await real(runtime)

    monkeypatch.setattr(Runtime, "close", close)
    world.client.script["small"] = [Slow()]
    asking = [asyncio.create_task(world.chat()) for _ in range(3)]
    await until(lambda: len(world.client.calls) == 3)
    write(path, "  strategy: cost-aware")
    await place.reloader.reload("test")
    for _ in range(20):
        await asyncio.sleep(0)
    assert closed == [], "requests are under way on it"
    go.set()
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 3
    await world.gateway.closed()
    assert closed == [old]
    assert world.runtime is place.built[0]
    await world.runtime.close()


async def test_counts_of_a_replaced_runtime_wait_for_the_store(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload while Redis is down loses none of them, and none is counted twice."""
    monkeypatch.setattr("routeiq.gateway.app.RETRY_S", 0.01)
    write(path, "  experiments: {ab: {variants: {same: {}}, models: ['*']}}")
    await place.reloader.reload("test")
    world, apply, down = place.world, place.world.state.counters.apply, True
    await world.gateway.closed()

    async def gone(*args: Any) -> None:
        if down:
            raise StoreUnavailable("gone")
        await apply(*args)

    monkeypatch.setattr(world.state.counters, "apply", gone)
    for _ in range(3):
        await world.chat()
        await place.reloader.reload("test")
    await world.chat()
    await asyncio.sleep(0.05)
    assert await world.state.counters.read("experiment:ab") == {}
    down = False
    await world.gateway.closed()
    await world.runtime.close()
    assert (await world.state.counters.read("experiment:ab"))["same:requests"] == 4


async def test_the_end_does_not_wait_for_counts_that_no_store_takes(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("routeiq.gateway.app.CLOSED_S", 0.02)
    write(path, "  experiments: {ab: {variants: {same: {}}, models: ['*']}}")
    await place.reloader.reload("test")
    await place.world.gateway.closed()

    async def gone(*_: Any) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(place.world.state.counters, "apply", gone)
    await place.world.chat()
    await place.reloader.reload("test")
    async with asyncio.timeout(5):
        await place.world.gateway.closed()
    assert "counts of experiments are lost" in caplog.text
    await place.world.runtime.close()


async def test_the_settings_of_breakers_follow(place: Place, path: Path) -> None:
    breakers = place.world.process.breakers
    breakers.failure("small-1")
    write(
        path,
        "  resilience: {breaker_window_s: 7.0}",
        "allowed_fails: 1, cooldown_time: 3",
    )
    await place.reloader.reload("test")
    id = place.world.runtime.resolved.deployments[0].id
    breakers.failure(id)
    assert breakers.state(id) == "closed"
    place.world.clock.advance(8.0)
    breakers.failure(id)
    assert breakers.state(id) == "closed", "the first is too old"
    breakers.failure(id)
    assert breakers.state(id) == "open"
    assert breakers.retry_after_s(id) == pytest.approx(3.0)
    await place.world.gateway.closed()
    await place.world.runtime.close()


async def test_the_defaults_of_keys_follow(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    keys = place.world.process.keys
    monkeypatch.setattr(keys, "use", lambda defaults: seen.append(defaults.tags))
    write(path, "  access: {defaults: {tags: [all]}}")
    await place.reloader.reload("test")
    assert seen == [("all",)]
    await place.world.gateway.closed()
    await place.world.runtime.close()


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("", []),
        ("  state: {reread_s: 1.0}", ["routeiq.state"]),
        ("  affinity: {enabled: false}", ["routeiq.affinity"]),
        ("  decisions: {queue: 7}", ["routeiq.decisions"]),
        ("  server: {decision_log_size: 7}", ["routeiq.server.decision_log_size"]),
        ("  strategy: cost-aware", []),
    ],
)
async def test_what_needs_a_restart_is_said(
    place: Place, path: Path, section: str, parts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # and is still said after the next reload
        write(path, section)
        await place.reloader.reload("test")
        assert place.reloader.status()["restart_for"] == parts
    assert ("need a restart" in caplog.text) is bool(parts)
    write(path)
    await place.reloader.reload("test")
    assert place.reloader.status()["restart_for"] == []
    await place.world.gateway.closed()
    await place.world.runtime.close()


def test_settings_that_are_read_once_stay() -> None:
    old = config_of(settings=Settings(port=1, workers=3, database_url="sqlite:////a", strategy="x"))
    new = config_of(settings=Settings(port=2, workers=9, database_url="sqlite:////b", strategy="y"))
    kept = keep_fixed(new, old).settings
    assert (kept.port, kept.workers, kept.database_url) == (1, 3, "sqlite:////a")
    assert kept.strategy == "y"
    assert set(module.FIXED) <= set(Settings.model_fields)
    assert only_at_start(old, new) == []


async def test_two_reloads_at_once_come_one_after_the_other(place: Place) -> None:
    under_way, most = 0, 0
    real = place.world.process.prepare

    async def prepare(runtime: Runtime) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        await real(runtime)
        under_way -= 1

    place.reloader._prepare = prepare
    await asyncio.gather(*(place.reloader.reload("test") for _ in range(3)))
    assert (most, place.reloader.reloads) == (1, 3)
    await place.world.gateway.closed()
    await place.world.runtime.close()


async def test_the_watch_reloads_on_a_change_and_outlives_mistakes(
    place: Place, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.005)
    watching = asyncio.create_task(place.reloader.watch(0.01))
    await asyncio.sleep(0.05)
    assert place.reloader.reloads == 0
    write(path, "  strategy: cost-aware")
    await until(lambda: place.reloader.reloads == 1)
    write(path, "  strategy: nonsense # longer")
    await until(lambda: place.reloader.failures == 1)
    real = place.reloader._prepare

    async def fails(_: Runtime) -> None:
        raise ZeroDivisionError("theirs")

    place.reloader._prepare = fails
    write(path, "  strategy: lowest-cost")
    await until(lambda: place.reloader.failures == 2)
    place.reloader._prepare = real
    assert not watching.done()
    assert place.world.runtime.router.strategy_name == "cost-aware"
    write(path, "  strategy: largest")
    await until(lambda: place.reloader.reloads == 2)
    assert place.world.runtime.router.strategy_name == "largest"
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await place.world.gateway.closed()
    await place.world.runtime.close()


def test_a_stamp_tells_files_apart(tmp_path: Path) -> None:
    file = tmp_path / "a"
    seen = {stamp([str(file)])}
    file.write_text("1")
    seen.add(stamp([str(file)]))
    file.write_text("12")
    seen.add(stamp([str(file)]))
    (tmp_path / "b").write_text("12")
    (tmp_path / "b").replace(file)  # as Kubernetes' volumes do
    seen.add(stamp([str(file)]))
    assert len(seen) == 4
