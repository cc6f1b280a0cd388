"""The certified guarantee: "not worse than model X by more than epsilon, with confidence 1 - delta".

The policy switches away from the reference X only to models whose predicted quality is at least X's minus a
margin tau; among those and X the objective chooses. `certify` walks a fixed grid of margins from strict to loose
on rows that were not used for training and stops at the first that fails its test (fixed-sequence testing: all
margins up to the certified one hold together at level delta, without a correction for their number). At every
margin all cost weights are tested, and all must pass (an intersection-union test needs no correction either):
the promise covers the cheapest admissible choice as well as the best predicted one, and cost weights between.

The test is exact for any number of rows. Per row the loss is D = score of X - score of the choice. Graded scores
are rounded to 0 or 1 with one common random number per row, which keeps the mean of D and leaves three values:
harm (1), gain (-1), same (0). With H harms and G gains of n rows, H - G has a trinomial law that depends on the
share of discordant rows p; the p-value of "mean loss >= epsilon" is the largest probability of so small an H - G
over all p in [epsilon, u], where u is the Clopper-Pearson upper bound of p at level beta, plus beta (Berger and
Boos, 1994).
Against the sum of two Clopper-Pearson bounds (one for harm, one for gain) it needs about half the rows:
docs/adr/0012-guarantee.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, require
from .evaluation.outcomes import Array, Outcomes

METHOD = "fixed sequence, exact unconditional test (Berger-Boos with a Clopper-Pearson bound)"
TAUS: tuple[float, ...] = (
    *(round(-0.20 + 0.01 * step, 2) for step in range(50)),
    *(round(0.30 + 0.05 * step, 2) for step in range(15)),
)
"""Margins in the order of their tests. Fixed before any data is seen: the sequence must not depend on it."""
COST_WEIGHTS: tuple[float, ...] = (
    inf,
    0.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    1_000.0,
    2_000.0,
    5_000.0,
)
"""Quality per USD of the objectives that the promise covers; infinity is "the cheapest that is admissible"."""
CHEAPEST = "cheapest"
BETA_SHARE = 0.05
"""Part of delta that is spent on bounding the share of discordant rows."""
GRID = 48
"""Shares of discordant rows at which the largest probability is looked for; smooth, mostly rising."""
TAIL = 1e-10
"""Probability of discordant counts that are not summed; counted against the certificate."""
LEAST_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A promise that was tested.

    `bound` is the upper confidence bound (1 - delta) of the mean loss at `tau`, the largest over the cost
    weights; `loss` the largest mean loss seen on the `rows` held-out rows (negative: better than the reference).
    `saved` is the share of the reference's cost that the largest cost weight saves there, `None` without
    costs, `switched` how often it leaves the reference. `models` are those that may stand in: a model that is
    not named here is not covered.
    """

    reference: str
    epsilon: float
    delta: float
    tau: float
    rows: int
    saved: float | None
    switched: float
    loss: float
    bound: float
    models: tuple[str, ...]
    cost_weights: tuple[float | str, ...]
    method: str = METHOD
    data_sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        found = asdict(self)
        found["models"], found["cost_weights"] = list(self.models), list(self.cost_weights)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """The held-out rows as the tests need them; scores of the unmeasured count as 0, the worst."""

    q: Array
    predicted: Array
    costs: Array
    rounded: npt.NDArray[np.int8]
    scores: Array
    reference: int


def certify(
    q: Array,
    data: Outcomes,
    reference: str,
    *,
    epsilon: float = 0.01,
    delta: float = 0.1,
    taus: tuple[float, ...] = TAUS,
    cost_weights: tuple[float, ...] = COST_WEIGHTS,
    seed: int = 0,
    data_sha256: str = "",
) -> Certificate | None:
    """The loosest margin that can be certified; `None` where not even the strictest can.

    Args:
        q: predicted quality (n, M); NaN is no candidate.
        data: measured outcomes of the same rows and models, none of them used to train what predicted q.
        reference: the model that the choice must not be worse than.
        epsilon: largest loss of mean quality that is promised.
        delta: how likely the promise may be broken, over the draw of the rows.
        taus: margins in the order of their tests, strict to loose.
        cost_weights: objectives that the promise covers.
        seed: of the random rounding of graded scores.
        data_sha256: kept in the certificate.

    Raises:
        DataError: the reference is not in the data, or there are too few rows with its score.
        ValueError: epsilon or delta is not in (0, 1).
    """
    if not (0.0 < epsilon < 1.0 and 0.0 < delta < 1.0):
        raise ValueError(f"epsilon and delta must be in (0, 1), got {epsilon} and {delta}")
    held = _held(q, data, reference, seed)
    rows = len(held.q)
    passed: tuple[float, list[tuple[int, int]]] | None = None
    for tau in taus:
        counts = [_counts(held, switch(held, tau, weight)) for weight in cost_weights]
        if any(p_value(harm, gain, rows, epsilon, delta) > delta for harm, gain in set(counts)):
            break
        passed = (tau, counts)
    if passed is None:
        return None
    tau, counts = passed
    losses = [_loss(held, switch(held, tau, weight)) for weight in cost_weights]
    thriftiest = switch(held, tau, max(cost_weights))
    kept = float(held.costs[:, held.reference].sum())
    spent = float(held.costs[np.arange(rows), thriftiest].sum())
    return Certificate(
        reference=reference,
        epsilon=epsilon,
        delta=delta,
        tau=tau,
        rows=rows,
        saved=1.0 - spent / kept if data.priced and kept > 0.0 else None,
        switched=float((thriftiest != held.reference).mean()),
        loss=max(losses),
        bound=max(upper_bound(harm, gain, rows, delta) for harm, gain in set(counts)),
        models=tuple(name for m, name in enumerate(data.models) if np.isfinite(held.q[:, m]).any()),
        cost_weights=tuple(CHEAPEST if weight == inf else weight for weight in cost_weights),
        data_sha256=data_sha256,
    )


def covers(certificate: Mapping[str, Any], cost_weight: float) -> bool:
    """Whether a certificate (as in a manifest) holds for choices under this cost weight.

    One that was tested for the cheapest admissible choice and for weights on both sides is taken to cover
    what lies between; one for a single weight covers that weight.
    """
    tested = [inf if w == CHEAPEST else float(w) for w in certificate.get("cost_weights", ())]
    if inf in tested and 0.0 in tested:
        return True
    return any(abs(cost_weight - w) <= 1e-9 * max(1.0, abs(w)) for w in tested if w != inf)


def _held(q: Array, data: Outcomes, reference: str, seed: int) -> _Held:
    if reference not in data.models:
        raise DataError(f"no model {reference!r} in the data; it has {', '.join(data.models)}.")
    column = data.models.index(reference)
    rows = np.flatnonzero(data.known[:, column] & np.isfinite(q[:, column]))
    if len(rows) < LEAST_ROWS:
        raise DataError(
            f"{len(rows)} rows have a score of {reference!r}; a certificate needs {LEAST_ROWS} or more."
        )
    part = data.take(rows)
    scores = np.where(part.known, part.scores, 0.0)
    common = np.random.default_rng(seed).random((len(rows), 1))
    return _Held(
        q=q[rows],
        predicted=part.predicted,
        costs=part.costs,
        rounded=(common < scores).astype(np.int8),
        scores=scores,
        reference=column,
    )


def switch(held: _Held, tau: float, weight: float) -> npt.NDArray[np.intp]:
    """The choice per row: best under the cost weight among X and models predicted no worse than X minus tau."""
    q, c = held.q, held.predicted
    floor = q[:, held.reference, None] - tau
    allowed = np.isfinite(q) & (q >= floor)
    allowed[:, held.reference] = True
    utility = -c if weight == inf else q - weight * c
    utility = np.where(allowed, utility, -inf)
    best = utility.max(axis=1, keepdims=True)
    # equals: the better predicted one, then the first
    chosen: npt.NDArray[np.intp] = np.where(utility == best, np.nan_to_num(q), -inf).argmax(axis=1)
    return chosen


def _counts(held: _Held, choice: npt.NDArray[np.intp]) -> tuple[int, int]:
    loss = held.rounded[:, held.reference] - held.rounded[np.arange(len(choice)), choice]
    return int((loss == 1).sum()), int((loss == -1).sum())


def _loss(held: _Held, choice: npt.NDArray[np.intp]) -> float:
    chosen = held.scores[np.arange(len(choice)), choice]
    return float((held.scores[:, held.reference] - chosen).mean())


@lru_cache(maxsize=4096)
def p_value(harm: int, gain: int, rows: int, epsilon: float, delta: float) -> float:
    """Exact p-value of "the mean loss is epsilon or more" after so many harms and gains in `rows` rows.

    Valid for every share of discordant rows: P(p-value <= alpha) <= alpha under the hypothesis for any alpha.
    `delta` only sets beta, the part spent on the bound of that share.
    """
    binom = require("scipy.stats", extra="train", purpose="a certificate").binom
    beta = BETA_SHARE * delta
    high = clopper_pearson_upper(harm + gain, rows, beta)
    if high <= epsilon:
        return beta
    share = np.linspace(epsilon, high, GRID)[:, None]
    most = int(binom.isf(TAIL / 2.0, rows, high))
    least = int(binom.ppf(TAIL / 2.0, rows, epsilon))
    count = np.arange(least, most + 1)[None, :]
    mass = binom.pmf(count, rows, share)
    harmful = (share + epsilon) / (2.0 * share)
    # of `count` discordant rows h are harms: h - (count - h) <= harm - gain
    most_harms = np.floor((count + harm - gain) / 2.0)
    below = np.zeros_like(mass)
    seen = mass > TAIL / (rows + 1)
    places = np.nonzero(seen)
    below[places] = binom.cdf(most_harms[0, places[1]], count[0, places[1]], harmful[places[0], 0])
    found = (mass * below).sum(axis=1) + (1.0 - mass[...].sum(axis=1, where=seen)).clip(min=0.0)
    return float(min(1.0, found.max() + beta))


def upper_bound(harm: int, gain: int, rows: int, delta: float) -> float:
    """Upper confidence bound (1 - delta) of the mean loss, at least 0: the least epsilon that is rejected."""
    low, high = max(0.0, (harm - gain) / rows), 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2.0
        if p_value(harm, gain, rows, middle, delta) <= delta:
            high = middle
        else:
            low = middle
    return high


def clopper_pearson_upper(hits: int, rows: int, alpha: float) -> float:
    """Upper confidence bound (1 - alpha) of a binomial share: `hits` of `rows` (Clopper and Pearson, 1934)."""
    if hits >= rows:
        return 1.0
    beta = require("scipy.stats", extra="train", purpose="a certificate").beta
    return float(beta.ppf(1.0 - alpha, hits + 1, rows - hits))
