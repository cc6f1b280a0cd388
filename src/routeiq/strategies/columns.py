"""Which column of an artifact predicts which deployment; and what stands in for a model that it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log10

from routeiq.types import Deployment, ModelFacts

NEIGHBOURHOOD = 0.25
"""Width, in factors of ten of the price, of what counts as the same price tier."""


def column(deployment: Deployment, models: Mapping[str, int]) -> int | None:
    """The column of a deployment's model, `None` where the artifact never saw it.

    Found by its group, its upstream name with or without the provider, or the last part of a training name such
    as `org/name`.
    """
    names = (deployment.group, deployment.model, f"{deployment.provider}/{deployment.model}")
    for name in names:
        if name in models:
            return models[name]
    for name in names:
        found = models.get(plain(name))
        if found is not None:
            return found
    return None


def by_name(models: Sequence[str]) -> dict[str, int]:
    """Names to columns; a name's plain form too, where no other model has it."""
    columns = {name: index for index, name in enumerate(models)}
    plains = [plain(name) for name in models]
    for index, name in enumerate(plains):
        if plains.count(name) == 1:
            columns.setdefault(name, index)
    return columns


def plain(name: str) -> str:
    """A model's name without organisation or provider, in lower case."""
    return name.rsplit("/", 1)[-1].lower()


def blended_price(facts: ModelFacts) -> float | None:
    """USD per million tokens, three parts input to one part output; `None` where unknown or free."""
    if facts.input_usd_per_token is None or facts.output_usd_per_token is None:
        return None
    price = (3.0 * facts.input_usd_per_token + facts.output_usd_per_token) / 4.0 * 1e6
    return price if price > 0.0 else None


def tier_weights(price: float | None, prices: Sequence[float | None]) -> list[float]:
    """How much each known model says about one with this price, summing to 1.

    A kernel over the logarithm of the price: the models of its tier count, the others hardly. Where prices are
    unknown, all models count the same: the mean is the least that can be claimed.
    """
    count = len(prices)
    if price is None or not any(prices):
        return [1.0 / count] * count
    own = log10(price)
    distances = [None if p is None else abs(log10(p) - own) for p in prices]
    nearest = min(d for d in distances if d is not None)
    raw = [
        0.0 if d is None else exp(-((d / NEIGHBOURHOOD) ** 2) + (nearest / NEIGHBOURHOOD) ** 2)
        for d in distances
    ]
    total = sum(raw)
    return [weight / total for weight in raw]
