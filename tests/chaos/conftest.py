"""Every chaos test starts with a simulator that has forgotten everything and fails at nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import SimulatorProcess


@pytest.fixture
def sim(simulator: SimulatorProcess) -> Iterator[SimulatorProcess]:
    simulator.reset()
    yield simulator
    simulator.reset()
