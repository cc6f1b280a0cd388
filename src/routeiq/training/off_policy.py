"""What a policy would have earned, from the log of another one that sometimes chose at random.

Every logged decision has the probability with which it was made (its propensity) and, if there was feedback, a
reward in [0, 1]. With w = P(new policy makes this decision) / propensity:

- IPS, inverse propensity scoring: mean(w r). Unbiased, of high variance.
- SNIPS, self-normalised: sum(w r) / sum(w) (Swaminathan and Joachims, NeurIPS 2015). Slightly biased, steadier.
- DR, doubly robust: mean(v + w (r - q)) with a predicted reward q of the logged decision and v of the new policy's
  (Dudik, Langford and Li, ICML 2011). Unbiased where the propensities are right, whatever the predictions are.

Intervals are the union of two: a jackknife's with Student's t at the effective sample size's degrees of freedom,
and a percentile bootstrap's. Each alone covers too rarely where a few large weights carry the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Method = Literal["ips", "snips", "dr"]
METHODS: tuple[Method, ...] = ("ips", "snips", "dr")
LEAST_SAMPLE = 50.0
"""Effective sample size below which nothing is concluded."""
LEAST_EXPLORED = 20
"""Where the new policy decides otherwise, so many logged decisions must be, by chance, what it would decide."""
MOST_UNSUPPORTED = 0.01
"""Share of requests in which the log could not possibly have made the new policy's decision."""
MOST_CLIPPED = 0.05
"""Share of the weight that clipping may cut off."""
RARE = 0.5
"""A decision of lower propensity was made by chance."""
CAUTION = 0.5
"""Both are computed for this share of the allowed error: as they are, they covered 92 to 98 times of 100."""
RESAMPLES = 400
BOOTSTRAP_ROWS = 50_000
"""Above so many rows the jackknife stands alone: there the two agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """n decisions with feedback, seen by a new policy. All (n,), rewards and probabilities in [0, 1].

    `propensity` is that of the decision that was made, `target` the new policy's probability of the same decision;
    `predicted` the predicted reward of that decision, `value` what is predicted for the new policy's own.
    `supported` says whether the log could have made the new policy's decision at all.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    predicted: Floats
    value: Floats
    supported: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse arrays of different lengths, and probabilities that are none."""
        names = ("reward", "propensity", "target", "predicted", "value", "supported")
        if len({len(getattr(self, name)) for name in names}) != 1:
            raise ValueError("all columns must have one entry per decision")
        for name in names[:3]:
            column = getattr(self, name)
            if not np.all((column >= 0.0) & (column <= 1.0)):
                raise ValueError(f"{name} must be in [0, 1]")
        if np.any(self.propensity == 0.0):
            raise ValueError("a decision that was made cannot have a propensity of 0")

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How much the log says about the new policy.

    `matched` counts decisions that the new policy would make too, `explored` those of them that chance had made.
    `differs` is the share of requests in which it would not have made the log's usual decision. `sample` is Kish's
    effective sample size, (sum w)^2 / sum w^2. `clipped` is the share of weight that `clip` cut off.
    """

    decisions: int
    matched: int
    explored: int
    differs: float
    unsupported: float
    sample: float
    largest_weight: float
    clipped: float
    clip: float | None

    def refusal(self) -> str | None:
        """Why nothing can be concluded, in words for a person; `None` where it can."""
        if self.decisions == 0:
            return "no decision in the log has both a propensity and feedback."
        if self.unsupported > MOST_UNSUPPORTED:
            return (
                f"in {self.unsupported:.0%} of the requests this strategy would choose a model that the logged "
                "one could not have chosen (propensity 0). Let it explore first (`adaptive`, exploration 0.02 or "
                "more)."
            )
        if self.differs > 0.0 and self.explored < LEAST_EXPLORED:
            return (
                f"in {self.differs:.0%} of the requests this strategy decides otherwise, but only "
                f"{self.explored} logged decisions happened to be like that; {LEAST_EXPLORED} are needed. Collect "
                "more feedback, or explore more."
            )
        if self.sample < LEAST_SAMPLE:
            return (
                f"the log is worth {self.sample:.0f} decisions of this strategy (effective sample size), "
                f"{LEAST_SAMPLE:.0f} are needed. Collect more feedback, or explore more."
            )
        if self.clipped > MOST_CLIPPED:
            return (
                f"clipping weights at {self.clip:g} cuts off {self.clipped:.0%} of them, so the estimate would be "
                "of another strategy. Clip higher, or not at all."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Mean reward of the new policy, with a confidence interval."""

    method: Method
    value: float
    low: float
    high: float
    confidence: float


def weights(log: Logged, clip: float | None = None) -> Floats:
    """How much each decision counts: target / propensity, at most `clip`."""
    found = log.target / log.propensity
    return found if clip is None else np.minimum(found, clip)


def overlap(log: Logged, clip: float | None = None) -> Overlap:
    """Diagnostics: whether and how far the log supports an estimate."""
    full, w = weights(log), weights(log, clip)
    total = float(full.sum())
    squares = float((w**2).sum())
    matched = log.target > 0.0
    rare = log.propensity < RARE
    usual = ~rare
    # Where the usual decision was made, the new policy's share of others is known; where chance decided, it is
    # the rows whose rare decision is the new policy's that stand for it, with their weight.
    differs = float(1.0 - log.target[usual].mean()) if usual.any() else 1.0
    return Overlap(
        decisions=len(log),
        matched=int(matched.sum()),
        explored=int((matched & rare).sum()),
        differs=differs,
        unsupported=float(1.0 - log.supported.mean()) if len(log) else 0.0,
        sample=float(w.sum()) ** 2 / squares if squares > 0.0 else 0.0,
        largest_weight=float(w.max(initial=0.0)),
        clipped=float(full.sum() - w.sum()) / total if total > 0.0 else 0.0,
        clip=clip,
    )


def estimate(
    log: Logged,
    method: Method,
    *,
    clip: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The value of the new policy by one method, in [0, 1]. Look at `overlap(...).refusal()` before believing it.

    Args:
        log: decisions with feedback, at least two.
        method: see the module's docstring.
        clip: largest weight; trades variance for bias.
        confidence: of the interval, in (0, 1).
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than two decisions, or none that the new policy would make.
    """
    w = weights(log, clip)
    if len(log) < 2 or not w.any():
        raise ValueError("no logged decision is one that this policy would make")
    top, bottom = _parts(log, method, w)
    value = float(top.sum() / bottom.sum())
    inner = 1.0 - CAUTION * (1.0 - confidence)
    low, high = _jackknife(top, bottom, value, _sample(w), inner)
    wider = _with_unseen(log, method, w)
    if wider is not None:
        above, below = wider
        centre = float(above.sum() / below.sum())
        lower, upper = _jackknife(above, below, centre, _sample(w), inner)
        low, high = min(low, lower), max(high, upper)
    if len(log) <= BOOTSTRAP_ROWS:
        lower, upper = _bootstrap(top, bottom, inner, seed)
        low, high = min(low, lower), max(high, upper)
    return Estimate(
        method=method,
        value=_unit(value),
        low=_unit(low),
        high=_unit(high),
        confidence=confidence,
    )


def _parts(log: Logged, method: Method, w: Floats) -> tuple[Floats, Floats]:
    """Every method is sum(a) / sum(b): a and b per decision."""
    ones = np.ones(len(log))
    if method == "ips":
        return w * log.reward, ones
    if method == "snips":
        return w * log.reward, w
    return log.value + w * (log.reward - log.predicted), ones


def _with_unseen(log: Logged, method: Method, w: Floats) -> tuple[Floats, Floats] | None:
    """The parts with two more explored decisions, one that went well and one that did not.

    Twenty explored decisions that all went well have no variance, and yet say little of the hundredth: what was
    never seen must count, as in the interval of Agresti and Coull (1998) for a share.
    """
    explored = (log.target > 0.0) & (log.propensity < RARE)
    if not explored.any():
        return None
    weight = float(w[explored].mean())
    more = Logged(
        reward=np.append(log.reward, [0.0, 1.0]),
        propensity=np.append(log.propensity, [0.5, 0.5]),
        target=np.append(log.target, [0.5, 0.5]),
        predicted=np.append(log.predicted, [float(log.predicted[explored].mean())] * 2),
        value=np.append(log.value, [float(log.value[explored].mean())] * 2),
        supported=np.append(log.supported, [True, True]),
    )
    return _parts(more, method, np.append(w, [weight, weight]))


def _sample(w: Floats) -> float:
    return float(w.sum()) ** 2 / float((w**2).sum())


def _jackknife(
    top: Floats, bottom: Floats, value: float, sample: float, confidence: float
) -> tuple[float, float]:
    n = len(top)
    rest = bottom.sum() - bottom
    if np.any(rest <= 0.0):  # one decision has all the weight
        return 0.0, 1.0
    without = (top.sum() - top) / rest
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    reach = student_t(0.5 + confidence / 2.0, max(1.0, sample - 1.0)) * error
    return value - reach, value + reach


def _bootstrap(top: Floats, bottom: Floats, confidence: float, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    n = len(top)
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        counts = np.bincount(rng.integers(0, n, n), minlength=n)
        below = counts @ bottom
        means[index] = counts @ top / below if below > 0.0 else np.nan
    means = means[np.isfinite(means)]
    edge = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [edge, 1.0 - edge])
    return float(low), float(high)


def student_t(probability: float, freedom: float) -> float:
    """Quantile of Student's t by its expansion around the normal one (Abramowitz and Stegun 26.7.5).

    Within 1 % for 3 degrees of freedom and more at the usual levels; below 3 it is four times that of 3, which is
    what one degree needs.
    """
    z = NormalDist().inv_cdf(probability)
    v = max(3.0, freedom)
    found = (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
    return found if freedom >= 3.0 else found * 4.0


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
