"""Every chaos test starts with a simulator that has forgotten everything and fails at nothing."""

from __future__ import annotations

import pytest

from tests.support.processes import SimulatorProcess


@pytest.fixture
def sim(simulator: SimulatorProcess) -> SimulatorProcess:
    simulator.reset()
    return simulator
