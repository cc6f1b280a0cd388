"""Rate limits and budgets of requests: reserved at admission, settled after, leased where a key is busy."""

from __future__ import annotations

from .buckets import NO_LIMITS, Ticket
from .limiter import Limiter
from .reading import Usage

__all__ = ["NO_LIMITS", "Limiter", "Ticket", "Usage"]
