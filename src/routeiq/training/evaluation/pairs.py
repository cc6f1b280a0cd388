"""A strong and a weak model: how well a score orders prompts by which of them is needed, as RouteLLM measures it.

The protocol of RouteLLM's evaluation (arXiv 2406.18665): the predicted need of the strong model is cut at its
ten quantiles; the curve is quality over the share of strong calls at those eleven thresholds. PGR is the share
of the quality gap between weak and strong that is recovered, APGR the mean of PGR over the share of strong
calls, CPT(x) the share of strong calls at which x percent of the gap is recovered. Random scores have APGR 0.5.
"""

from __future__ import annotations

import numpy as np

from .curves import Sweep, totals, units
from .outcomes import Array, Outcomes

THRESHOLDS = 10
"""Bins of RouteLLM's curve; one more threshold than that."""
RECOVERED = (0.2, 0.5, 0.8)
"""Shares of the gap that CPT20, CPT50 and CPT80 ask for."""


def need(q: Array, strong: int, weak: int) -> Array:
    """How much more quality the strong model is predicted to give, per row."""
    wanted: Array = q[:, strong] - q[:, weak]
    return wanted


def pair_sweep(wanted: Array, data: Outcomes, strong: int, weak: int, seed: int = 0) -> Sweep:
    """Sums at RouteLLM's thresholds, over the rows where both models were measured; `cost` holds strong calls.

    The last two columns are always weak and always strong. Strong is called where the need is at least the
    threshold; at the last one, the maximum, nowhere.
    """
    known = data.known[:, strong] & data.known[:, weak] & np.isfinite(wanted)
    w, high, low = wanted[known], data.scores[known, strong], data.scores[known, weak]
    unit, total = units(len(w), seed)
    cuts = np.quantile(w, np.linspace(0.0, 1.0, THRESHOLDS + 1)) if len(w) else np.zeros(1)
    masks = [w >= cut for cut in cuts[:-1]] + [w > cuts[-1]]
    masks += [np.zeros(len(w), dtype=bool), np.ones(len(w), dtype=bool)]
    quality = [totals(unit, total, np.where(mask, high, low)) for mask in masks]
    calls = [totals(unit, total, mask) for mask in masks]
    count = totals(unit, total)
    return Sweep(
        quality=np.stack(quality, axis=1), cost=np.stack(calls, axis=1), count=count[:, None]
    )


def pair_metrics(quality: Array, calls: Array) -> dict[str, float]:
    """`apgr` and `cpt_20`, `cpt_50`, `cpt_80` (shares of strong calls) of a `pair_sweep`'s means.

    NaN where strong is not better than weak: there is no gap to recover. CPT is read off with linear
    interpolation on the curve in the order of strong calls, whether or not it rises everywhere, as RouteLLM
    does.
    """
    weak, strong = float(quality[-2]), float(quality[-1])
    gap = strong - weak
    names = [f"cpt_{share * 100:.0f}" for share in RECOVERED]
    if not gap > 0.0:
        return dict.fromkeys(["apgr", *names], float("nan"))
    order = np.argsort(calls[:-2], kind="stable")
    x, y = calls[:-2][order], quality[:-2][order]
    width = float(x[-1] - x[0])
    under = float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2.0)
    found = {"apgr": (under - weak * width) / (gap * width) if width > 0.0 else float("nan")}
    for name, share in zip(names, RECOVERED, strict=True):
        found[name] = float(np.interp(weak + share * gap, y, x))
    return found
