"""What every strategy is shown beside: a number says little until the simple alternatives stand next to it.

`random` (uniform over the measured models, in expectation), every single model, the mix of singles, the oracle
(knows the scores and the costs), and ladders: routers that know one number per prompt (its length, the untrained
difficulty, LiteLLM's complexity score) and send the higher ones up to dearer models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module

import numpy as np

from routeiq.exceptions import RouteIQError

from .curves import Choice, Sweep, choose, hull, lambdas, singles_sweep, sweep, totals, units
from .outcomes import Array, Outcomes

RUNGS = 20
"""Thresholds between two neighbouring models of a ladder."""
LITELLM_MODULE = "litellm.router_strategy.complexity_router.complexity_router"

LITELLM_OFFLINE = "LITELLM_LOCAL_MODEL_COST_MAP"
"""Set for LiteLLM before its import, which otherwise downloads a price list and waits where it cannot."""


def random_sweep(data: Outcomes, seed: int = 0) -> Sweep:
    """Uniform choice among the measured models: its expectation, so one point without sampling noise."""
    unit, total = units(len(data), seed)
    known = data.known
    count = known.sum(axis=1)
    quality = np.where(known, data.scores, 0.0).sum(axis=1) / count
    cost = np.where(known, data.costs, 0.0).sum(axis=1) / count
    size = totals(unit, total)
    return Sweep(
        quality=totals(unit, total, quality)[:, None],
        cost=totals(unit, total, cost)[:, None],
        count=size[:, None],
    )


def oracle_sweep(data: Outcomes, seed: int = 0) -> Sweep:
    """Chooses with the measured scores and costs; nothing can be better under the same objective."""
    weights = lambdas(data.scores, data.costs)
    return sweep(data, (choose(data.scores, data.costs, float(w)) for w in weights), seed)


def ladder_sweep(difficulty: Array, data: Outcomes, seed: int = 0) -> Sweep:
    """Routes by one number per row. Its first point sends everything to the best single model.

    The models are those on the upper hull of the singles, in the order of their costs, as measured on the very
    rows that are judged: that flatters these baselines. Between two neighbours the number is cut at its
    quantiles: at or above the threshold the dearer model answers. A row where the model was not measured takes
    the next measured one down the ladder, else the first one measured.
    """
    return sweep(data, _ladder(difficulty, data), seed)


def steps(data: Outcomes) -> list[int]:
    """The models on the upper hull of the singles, by ascending cost."""
    quality, cost = singles_sweep(data).mean()
    x, y = hull(cost, quality)
    found = []
    for height, width in zip(y[1:], x[1:], strict=True):
        at = np.flatnonzero((quality == height) & (cost == width))
        found.append(int(at[0]))
    return found or [int(np.argmax(quality))]


def _ladder(difficulty: Array, data: Outcomes) -> Iterator[Choice]:
    models = steps(data)
    yield _available(np.full(len(data), models[-1]), data, models)
    cuts = np.quantile(difficulty, np.linspace(0.0, 1.0, RUNGS + 1))
    for low, high in zip(models[-2::-1], models[:0:-1], strict=True):
        for cut in cuts[1:]:
            yield _available(np.where(difficulty >= cut, high, low), data, models)
        yield _available(np.full(len(data), low), data, models)


def _available(choice: Choice, data: Outcomes, models: list[int]) -> Choice:
    known = data.known
    rows = np.arange(len(data))
    missing = ~known[rows, choice]
    if not missing.any():
        return choice
    fixed = np.where(missing, known.argmax(axis=1), choice)
    for model in models:  # the dearest measured one that is not above the wanted one wins
        below = missing & known[:, model] & (models.index(model) <= _place(choice, models))
        fixed = np.where(below, model, fixed)
    return fixed


def _place(choice: Choice, models: list[int]) -> Choice:
    place = np.zeros(max(models) + 1, dtype=np.intp)
    place[models] = np.arange(len(models))
    return place[choice]


def litellm_complexity(texts: tuple[str, ...]) -> Array | None:
    """The score that LiteLLM's complexity router gives each prompt; `None` where it is not (wholly) installed.

    LiteLLM is no dependency: it is looked for here only, in the offline evaluation.

    Raises:
        RouteIQError: it is installed, but not as this version knows it.
    """
    os.environ.setdefault(LITELLM_OFFLINE, "True")
    try:
        module = import_module(LITELLM_MODULE)
    except ModuleNotFoundError:
        return None
    try:
        router = module.ComplexityRouter("auto", None, derive_savings_baseline=False)
        return np.array([float(router.classify(text)[1]) for text in texts])
    except (AttributeError, TypeError, ValueError) as error:
        raise RouteIQError(
            f"the installed LiteLLM has another complexity router than the one known here ({error}); "
            "leave that baseline out with --no-litellm."
        ) from error
