"""Gateways of this tier: few, and each for as long as a module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.helpers import catalogue, write
from tests.support.processes import Gateway, SimulatorProcess, start_gateway

StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[StartGateway]:
    """Start gateways that live until the module's end: `start(config, *arguments, **options)`."""
    simulator.reset()  # whatever another tier left behind
    with contextlib.ExitStack() as stack:

        def run(config: dict[str, Any], *arguments: str, **options: Any) -> Gateway:
            path = write(tmp_path_factory.mktemp("gateway"), config)
            return stack.enter_context(start_gateway(path, *arguments, **options))

        yield run


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    """One worker in front of every simulated model; a module may define its own."""
    return start({"model_list": catalogue(simulator.url)})


@pytest.fixture
def sim(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """The simulator with nothing recorded; it forgets its steering afterwards."""
    simulator.reset()
    yield simulator
    simulator.reset()
