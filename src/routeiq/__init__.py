"""RouteIQ: an AI gateway with learned routing.

The names below are the public Python API. They load on first use, so `import routeiq` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from routeiq._version import __version__

if TYPE_CHECKING:
    from routeiq.base import Options, RoutingStrategy
    from routeiq.exceptions import ConfigError, RouteIQError
    from routeiq.types import (
        Candidate,
        Decision,
        Deployment,
        ModelFacts,
        Outcome,
        RoutingRequest,
        StrategyTraits,
    )

_HOME = {
    "Candidate": "routeiq.types",
    "ConfigError": "routeiq.exceptions",
    "Decision": "routeiq.types",
    "Deployment": "routeiq.types",
    "ModelFacts": "routeiq.types",
    "Options": "routeiq.base",
    "Outcome": "routeiq.types",
    "RouteIQError": "routeiq.exceptions",
    "RoutingRequest": "routeiq.types",
    "RoutingStrategy": "routeiq.base",
    "StrategyTraits": "routeiq.types",
}

__all__ = [
    "Candidate",
    "ConfigError",
    "Decision",
    "Deployment",
    "ModelFacts",
    "Options",
    "Outcome",
    "RouteIQError",
    "RoutingRequest",
    "RoutingStrategy",
    "StrategyTraits",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'routeiq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
