"""A strategy over recorded decisions or prompts: what it would have chosen, at what quality and cost.

The choice is made by the objective that serves requests, from a scorer's predictions, among the candidates that
were eligible then. Where the log has feedback and propensities, `off_policy` says what the choices would have been
worth, or why that cannot be said. A profile's budget, guarantee and latencies are not replayed: only scores,
predicted costs and the floor are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan

import numpy as np
import numpy.typing as npt

from routeiq.config.section import Profile
from routeiq.routing.objective import ordered, utilities
from routeiq.types import Candidate, Deployment

from .build import Featuriser, build_table
from .errors import DataError
from .off_policy import METHODS, Estimate, Logged, Overlap, estimate, overlap
from .records import Preference, Record
from .scoring import PriorScorer, Scorer
from .table import Table

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
NOBODY = -1
"""Stands for the choice in a prompt file, where none was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """n requests with what may answer them, in the columns of `table` (M models).

    `eligible` (n, M) are the candidates, `costs` (n, M) their predicted costs in USD with NaN where unknown.
    `chosen` (n,) is the logged choice, `NOBODY` in a prompt file; `propensity` (n,) its probability, `reward` (n,)
    its feedback, NaN where there is none. `possible` (n, M) says what the log could have chosen. `left_out` counts
    the records that are not here, by reason; `worded` says whether all have their text.
    """

    table: Table
    eligible: Mask
    costs: Floats
    chosen: Index
    propensity: Floats
    reward: Floats
    possible: Mask
    left_out: Mapping[str, int]
    worded: bool = True

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def logged(self) -> bool:
        """Whether these are decisions that were made, not prompts."""
        return bool((self.chosen != NOBODY).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What one strategy would have done.

    `agreement` is the share of requests in which it chooses what was chosen, `None` for prompts.
    `predicted_quality` is by its own predictions (which flatter whoever makes them), `predicted_usd` the mean of
    the costs that are known. `estimates` are empty where `refusal` says why the log supports no conclusion.
    """

    name: str
    requests: int
    selection: Mapping[str, float]
    agreement: float | None
    predicted_quality: float
    predicted_usd: float | None
    choices: Index
    overlap: Overlap | None = None
    refusal: str | None = None
    estimates: tuple[Estimate, ...] = ()


def read_decisions(
    records: Iterable[Record | Preference], *, features: Featuriser | None = None
) -> Decisions:
    """The routing decisions in a log, as `reading.read` gives it.

    Decisions between fewer than two candidates (a model was asked for by name) are left out, as are those with
    neither a text nor features of the version at hand.

    Raises:
        DataError: no decision is left.
    """
    left_out: Counter[str] = Counter()
    kept: dict[str, Record] = {}
    for record in records:
        if isinstance(record, Preference) or record.chosen is None:
            left_out["not a decision"] += 1
        elif len(_names(record)) < 2:
            left_out["no choice: one candidate"] += 1
        else:
            kept[record.id] = record
    if not kept:
        raise DataError(f"there is no routing decision in the log ({_said(left_out)})")
    # A row without a score would not get into a table; here nothing is learned, so any name will do.
    named = (
        replace(r, scores=dict.fromkeys(_names(r), nan) | dict(r.scores)) for r in kept.values()
    )
    table = build_table(named, features=features)
    if len(table) < len(kept):
        left_out["no text and no usable features"] = len(kept) - len(table)
    return _aligned(table, [kept[id] for id in table.ids], left_out)


def prompts(
    texts: Sequence[str],
    models: Sequence[str],
    costs: Sequence[Mapping[str, float]] | None = None,
    *,
    features: Featuriser | None = None,
) -> Decisions:
    """Prompts that every one of `models` may answer; `costs` are USD by model per prompt, where known.

    Raises:
        DataError: no prompt or fewer than two models.
    """
    if len(models) < 2:
        raise DataError(
            "there is nothing to choose between: name two models or more (--config, --artifact)"
        )
    known = costs or [{} for _ in texts]
    records = [
        Record(id=str(n), text=text, scores=dict.fromkeys(models, nan), costs=cost)
        for n, (text, cost) in enumerate(zip(texts, known, strict=True), 1)
        if text.strip()
    ]
    if not records:
        raise DataError("there is no prompt in the file")
    return _aligned(build_table(records, features=features), records, Counter())


def _names(record: Record) -> list[str]:
    given = record.extra.get("candidates")
    names = [str(name) for name in given] if isinstance(given, list) else list(record.scores)
    if record.chosen is not None:
        names.append(record.chosen)
    return list(dict.fromkeys(names))


def _aligned(table: Table, records: Sequence[Record], left_out: Counter[str]) -> Decisions:
    """The records in the table's columns."""
    places = {model: place for place, model in enumerate(table.models)}
    shape = (len(records), len(table.models))
    eligible, possible = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    chosen = np.full(len(records), NOBODY, dtype=np.int64)
    propensity, reward = np.full(len(records), nan), np.full(len(records), nan)
    for row, record in enumerate(records):
        eligible[row, [places[name] for name in _names(record)]] = True
        if record.chosen is None:
            continue
        chosen[row] = places[record.chosen]
        known = record.propensities
        propensity[row] = known.get(record.chosen, nan)
        reward[row] = record.scores.get(record.chosen, nan)
        if len(known) > 1:
            possible[row, [places[m] for m, p in known.items() if p > 0.0 and m in places]] = True
        elif propensity[row] < 1.0:  # chance chose, but nobody said among whom
            possible[row] = eligible[row]
        possible[row, chosen[row]] = True
    return Decisions(
        table=table,
        eligible=eligible,
        costs=table.costs.astype(np.float64),
        chosen=chosen,
        propensity=propensity,
        reward=reward,
        possible=possible,
        left_out=dict(left_out),
        worded=all(record.text for record in records),
    )


def choose(decisions: Decisions, scores: npt.NDArray[np.float32], profile: Profile) -> Index:
    """The column that the objective puts first, for every request."""
    stand_ins = [
        Deployment(id=name, group=name, provider="replay", model=name)
        for name in decisions.table.models
    ]
    found = np.empty(len(decisions), dtype=np.int64)
    for row in range(len(decisions)):
        columns = np.flatnonzero(decisions.eligible[row]).tolist()
        field = [
            Candidate(deployment=stand_ins[column], cost_usd=cost if isfinite(cost) else None)
            for column, cost in zip(columns, decisions.costs[row, columns].tolist(), strict=True)
        ]
        predicted = scores[row, columns].tolist()
        values = utilities(profile, predicted, field)
        order, _ = ordered(values, predicted, profile.min_quality)
        found[row] = columns[order[0]]
    return found


def run(
    decisions: Decisions,
    scorer: Scorer,
    profile: Profile,
    *,
    name: str | None = None,
    clip: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Replayed:
    """Replay one strategy.

    Args:
        decisions: from a log or a prompt file.
        scorer: predicts quality.
        profile: how quality and cost trade.
        name: what to call it; the scorer's own name by default.
        clip: largest importance weight of the off-policy estimates; `None` clips nothing.
        confidence: of their intervals.
        seed: of their bootstrap.

    Raises:
        DataError: the scorer reads the prompts, and the log has none.
    """
    if isinstance(scorer, PriorScorer) and not decisions.worded:
        raise DataError(
            "`prior` judges the prompts' words, and this log has none: set routeiq.learning.log_text, or "
            "replay an artifact, which needs only the features"
        )
    scores = scorer.scores(decisions.table)
    choices = choose(decisions, scores, profile)
    rows = np.arange(len(decisions))
    costs = decisions.costs[rows, choices]
    priced = costs[np.isfinite(costs)]
    counts = np.bincount(choices, minlength=len(decisions.table.models))
    share = counts / max(1, len(decisions))
    base = Replayed(
        name=name or scorer.name,
        requests=len(decisions),
        selection={m: float(s) for m, s in zip(decisions.table.models, share, strict=True) if s},
        agreement=float((choices == decisions.chosen).mean()) if decisions.logged else None,
        predicted_quality=float(scores[rows, choices].mean()),
        predicted_usd=float(priced.mean()) if len(priced) else None,
        choices=choices,
    )
    if not decisions.logged:
        return base
    return _judged(base, logged(decisions, scores, choices), clip, confidence, seed)


def logged(decisions: Decisions, scores: npt.NDArray[np.float32], choices: Index) -> Logged:
    """The decisions with feedback and a propensity, as `off_policy` takes them."""
    use = np.flatnonzero(np.isfinite(decisions.reward) & np.isfinite(decisions.propensity))
    made, mine = decisions.chosen[use], choices[use]
    return Logged(
        reward=decisions.reward[use],
        propensity=decisions.propensity[use],
        target=(made == mine).astype(np.float64),
        predicted=scores[use, made].astype(np.float64),
        value=scores[use, mine].astype(np.float64),
        supported=decisions.possible[use, mine],
    )


def _judged(
    found: Replayed, log: Logged, clip: float | None, confidence: float, seed: int
) -> Replayed:
    known = overlap(log, clip)
    refusal = known.refusal()
    if refusal is not None:
        return replace(found, overlap=known, refusal=refusal)
    estimates = tuple(
        estimate(log, method, clip=clip, confidence=confidence, seed=seed) for method in METHODS
    )
    return replace(found, overlap=known, estimates=estimates)


def as_logged(decisions: Decisions, *, confidence: float = 0.95) -> Estimate | None:
    """The mean reward of the choices that were made; `None` where there is too little feedback to say."""
    rewards = decisions.reward[np.isfinite(decisions.reward)]
    if len(rewards) < 2:
        return None
    ones = np.ones(len(rewards))
    same = Logged(
        reward=rewards,
        propensity=ones,
        target=ones,
        predicted=rewards,
        value=rewards,
        supported=np.ones(len(rewards), dtype=bool),
    )
    return estimate(same, "ips", confidence=confidence)


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {why}" for why, count in counts.items()) or "it is empty"
