"""A programmable OpenAI-compatible provider on a real socket, for demo, tests and benchmarks."""

from __future__ import annotations

from .behaviour import Behaviour
from .models import CATALOGUE, SimulatedModel, load_models
from .record import ReceivedRequest
from .server import Simulator

__all__ = [
    "CATALOGUE",
    "Behaviour",
    "ReceivedRequest",
    "SimulatedModel",
    "Simulator",
    "load_models",
]
