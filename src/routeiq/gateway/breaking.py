"""How the configuration sets circuit breakers, and the line that each change of one is worth."""

from __future__ import annotations

import logging

from routeiq.config.model import Config

logger = logging.getLogger("routeiq.gateway")


def threshold(config: Config) -> int:
    """Failures that open a breaker. LiteLLM's `allowed_fails` is how many are still fine: one less."""
    if config.router.allowed_fails is not None:
        return config.router.allowed_fails + 1
    return config.settings.cb_failure_threshold


def cooldown_s(config: Config) -> float:
    """Seconds that an open breaker waits: LiteLLM's `cooldown_time`, else ROUTEIQ_CB_TIMEOUT_SECONDS."""
    given = config.router.cooldown_s
    return config.settings.cb_timeout_seconds if given is None else given


def log_transition(name: str, old: str, new: str) -> None:
    """A breaker changed: always worth a line."""
    logger.warning("circuit breaker changed", extra={"deployment": name, "from": old, "to": new})
