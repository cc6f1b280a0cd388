"""The formats that can be read, in the order in which they are tried."""

from __future__ import annotations

from routeiq.training.errors import DataError

from .base import Format, Values
from .benchmarks import AVENGERS, EMBEDLLM, LLMROUTERBENCH, NVIDIA, RORF
from .decision_log import DECISION_LOG
from .gmtrouter import GMTROUTER
from .llmrouter import LLMROUTER, ROUTERDC
from .lm_eval import LM_EVAL
from .plain import PLAIN, PLAIN_LONG, PLAIN_WIDE
from .routellm import BATTLES, JUDGEMENTS, ROUTELLM_TABLE
from .routerarena import ROUTERARENA, ROUTERARENA_CACHED
from .routerbench import ROUTERBENCH
from .vllm_sr import VLLM_SR, VLLM_SR_OFFLINE

FORMATS: tuple[Format, ...] = (
    DECISION_LOG,
    VLLM_SR_OFFLINE,
    ROUTERARENA_CACHED,
    ROUTERARENA,
    LM_EVAL,
    GMTROUTER,
    LLMROUTER,
    VLLM_SR,
    EMBEDLLM,
    JUDGEMENTS,
    BATTLES,
    LLMROUTERBENCH,
    AVENGERS,
    NVIDIA,
    RORF,
    ROUTERBENCH,
    ROUTERDC,
    PLAIN,
    PLAIN_WIDE,
    PLAIN_LONG,
    ROUTELLM_TABLE,
)
"""From the most particular keys to the plainest: the first that matches is taken."""


def format_named(name: str) -> Format:
    """The format with this name.

    Raises:
        DataError: there is none; the message lists those that are.
    """
    for one in FORMATS:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in FORMATS)
    raise DataError(f"there is no format {name!r}; there are {known}")


def detect(values: Values) -> Format | None:
    """The first format whose keys these are."""
    return next((one for one in FORMATS if one.matches(values)), None)
