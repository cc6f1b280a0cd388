"""How good a model is in general, in (0, 1): declared, else read from its tier, its price or its name.

The number means: the share of good answers on examination questions of medium difficulty. It orders models and
gives floors and cost weights something to hold on to; where it matters, declare it (`quality` in `model_info`) or
train.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import log10, sqrt

from routeiq.types import ModelFacts

UNKNOWN_QUALITY = 0.55
"""Prior for a model of which nothing is known, mostly local ones: between the cheapest and the middle."""
LOWEST, HIGHEST = 0.30, 0.97
"""No guess lies outside."""
PER_DECADE = 0.175
"""Quality that a ten times higher price suggests."""
AT_ONE_USD = 0.70
"""Quality that a price of 1 USD per million tokens suggests (three parts input, one part output)."""
ONE_BILLION, PER_DECADE_OF_SIZE = 0.36, 0.19
"""Quality that one billion parameters suggest, and that ten times as many add."""

TIERS: Mapping[str, float] = {
    "tiny": 0.45,
    "nano": 0.45,
    "low": 0.55,
    "small": 0.55,
    "cheap": 0.55,
    "economy": 0.55,
    "simple": 0.55,
    "fast": 0.60,
    "medium": 0.70,
    "mid": 0.70,
    "standard": 0.70,
    "balanced": 0.70,
    "high": 0.85,
    "large": 0.85,
    "strong": 0.85,
    "complex": 0.85,
    "premium": 0.90,
    "reasoning": 0.92,
    "frontier": 0.95,
    "flagship": 0.95,
}
"""What `tier` in `model_info` may be called and what it stands for; other names are no information."""

_NAMES: tuple[tuple[str, float], ...] = (
    (r"nano|tiny", 0.50),
    (r"gpt-?4-turbo", 0.86),
    (r"o[134]-mini", 0.82),
    (r"mini|micro|lite|small|instant", 0.60),
    (r"turbo|command-r(?!-plus)", 0.66),
    (r"flash|haiku|fast|air", 0.70),
    (r"gpt-?5|opus|ultra|r1|reasoner|thinking|o[134]", 0.93),
    (r"sonnet|gpt-?4\w*|grok|pro|max", 0.86),
    (r"large|plus|deepseek|kimi|glm", 0.80),
    (r"medium|claude|gemini|command|gpt", 0.72),
)
"""Words in the names of models, the first that matches counts: rough classes, to order models by."""
_FAMILIES = tuple(
    (re.compile(rf"(?:^|[^a-z0-9])(?:{pattern})(?![a-z0-9])"), value) for pattern, value in _NAMES
)
_SIZE = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)(b|m)(?![a-z0-9])")
_ACTIVE = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])")


def quality(facts: ModelFacts, name: str = "") -> float:
    """The declared quality, else that of the tier, else a guess from the list price, else one from the name.

    The guess from the price is linear in its logarithm: 0.70 at 1 USD per million tokens (three parts input,
    one part output) and 0.175 more for each factor of ten, between 0.30 and 0.97.
    """
    if facts.quality is not None:
        return min(0.999, max(0.001, facts.quality))
    if facts.tier is not None and facts.tier.lower() in TIERS:
        return TIERS[facts.tier.lower()]
    if facts.input_usd_per_token is not None and facts.output_usd_per_token is not None:
        blended = (3.0 * facts.input_usd_per_token + facts.output_usd_per_token) / 4.0 * 1e6
        if blended > 0.0:
            return _guess(AT_ONE_USD + PER_DECADE * log10(blended))
    named = quality_of_name(name)
    return UNKNOWN_QUALITY if named is None else named


def quality_of_name(name: str) -> float | None:
    """What a name says: the number of parameters (`8x7b`, `70B`, `30b-a3b`), else a word like `mini` or `opus`."""
    size = parameters(name)
    if size is not None:
        return _guess(ONE_BILLION + PER_DECADE_OF_SIZE * log10(size))
    lower = name.lower()
    return next((value for pattern, value in _FAMILIES if pattern.search(lower)), None)


def parameters(name: str) -> float | None:
    """Billions of parameters that a name tells, `None` if it does not.

    A mixture of experts counts as the dense model that would be about as good: the geometric mean of its
    total and its active parameters. `8x7b` has about 0.85 * 8 * 7 in total and two experts active.
    """
    lower = name.lower().replace("_", "-")
    found = [
        (float(number) / (1000.0 if unit == "m" else 1.0), int(experts or 1))
        for experts, number, unit in _SIZE.findall(lower)
    ]
    if not found:
        return None
    billions, experts = max(found, key=lambda each: each[0] * each[1])
    if billions <= 0.0:
        return None
    if experts > 1:
        return sqrt(0.85 * experts * billions * 2.0 * billions)
    active = _ACTIVE.search(lower)
    return sqrt(billions * float(active[1])) if active and float(active[1]) else billions


def qualities(
    costs: Mapping[str, float | None], facts: Mapping[str, ModelFacts] | None = None
) -> dict[str, float]:
    """The qualities of models of which only names and what a request costs (in any one unit) may be known.

    Args:
        costs: a typical cost of a request for each model, `None` where it is not known.
        facts: what a price table or the operator says about some of them; goes before all guesses.

    Where a name and a cost are known, the guess is the mean of what the two say. Costs are relative: the model
    of mean (logarithmic) cost gets the mean of what the names say.
    """
    told = {name: (facts or {}).get(name, ModelFacts()) for name in costs}
    guesses = {name: quality(told[name], name) for name in costs}
    logs = {name: log10(cost) for name, cost in costs.items() if cost is not None and cost > 0.0}
    if len(logs) < 2:
        return guesses
    centre = sum(logs.values()) / len(logs)
    level = sum(guesses[name] for name in logs) / len(logs)
    for name, log in logs.items():
        if told[name].quality is None and told[name].tier is None:
            by_cost = level + PER_DECADE * (log - centre)
            guesses[name] = _guess((guesses[name] + by_cost) / 2.0)
    return guesses


def _guess(value: float) -> float:
    return min(HIGHEST, max(LOWEST, value))
