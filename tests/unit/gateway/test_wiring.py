from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.settings import Settings
from routeiq.exceptions import ConfigError, InvalidApiKey
from routeiq.gateway.wiring import (
    ConfiguredNames,
    administration_of,
    authenticator_of,
    experiments_of,
)
from routeiq.types import RoutingRequest
from tests.support.clock import FakeClock
from tests.support.worlds import MASTER, World, config_of

KEY = "application-key-secret"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> World:
    section = {
        "groups": {"both": {"models": ["small", "large"]}},
        "profiles": {"own": {}},
        "access": {"keys": {"app": {"key": KEY}}},
    }
    return World(monkeypatch, clock, config_of(section))


def test_what_variants_may_name(world: World) -> None:
    names = ConfiguredNames(world.runtime.config, world.runtime.catalog)
    assert names.profile("own")
    assert names.profile("eco"), "ours count too"
    assert not names.profile("none")
    for model in ("small", "both", "auto"):
        assert names.model(model), model
    assert not names.model("none")
    judge = names.strategy("judge")
    assert judge is not None
    assert judge.prepares
    assert names.strategy("none") is None


@pytest.mark.parametrize("variant", [{"strategy": "none"}, {"profile": "none"}, {"model": "none"}])
def test_an_experiment_of_the_file_that_names_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, variant: dict[str, Any]
) -> None:
    experiments = {"ab": {"variants": {"same": {}, "new": variant}}}
    with pytest.raises(ConfigError, match=r"routeiq\.experiments\.ab\.variants\.new"):
        World(monkeypatch, clock, config_of({"experiments": experiments}))


@pytest.mark.parametrize("enabled", [True, False])
def test_experiments_may_be_off(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock, enabled: bool
) -> None:
    settings = Settings(master_key=MASTER, ab_testing_enabled=enabled)
    section = {"experiments": {"ab": {"variants": {"same": {}}, "models": ["*"]}}}
    config = config_of(section, settings=settings)
    world = World(monkeypatch, clock, config)
    made = experiments_of(config, world.process, world.runtime.catalog)
    request = RoutingRequest(id="r", operation="chat", model="small", text="hi")
    assert (made.assign(request) is not None) is enabled


def test_each_runtimes_experiments_have_a_name_of_their_own(world: World) -> None:
    names = {world.process.next_worker() for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("worker-") for name in names)


@pytest.mark.anyio
@pytest.mark.parametrize("insecure", [True, False])
async def test_who_is_let_in(world: World, insecure: bool) -> None:
    config = world.runtime.config
    one = authenticator_of(config, world.process, insecure=insecure)

    async def alias(key: str) -> str:
        return (await one.authenticate([(b"authorization", f"Bearer {key}".encode())])).alias

    assert await alias(MASTER) == "master"
    assert await alias(KEY) == "app"
    if insecure:
        assert await alias("whoever") == "anonymous"
    else:
        with pytest.raises(InvalidApiKey):
            await alias("whoever")


@pytest.mark.anyio
async def test_a_key_that_was_made_is_known_at_once(world: World) -> None:
    made = await world.ask("POST /routeiq/v1/keys", {"alias": "new"})
    assert made.status == 201
    assert (await world.chat(key=made.json()["secret"])).status == 200
    administration = administration_of(world.runtime.config, world.process)
    assert administration is not None
