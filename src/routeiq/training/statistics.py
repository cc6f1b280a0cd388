"""What is in a data set, and whether a router can learn from it: one pass over the records."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from .languages import language
from .records import Preference, Record
from .splits import text_hash

EQUAL = 1e-9
"""Difference of scores below which two models tie."""
FEW_ROWS = 200
"""Labels below which a learned router did not beat the best single model when measured."""
FEW_LABELS = 50
"""Labels below which a model's column says little."""
SMALL_GAP = 0.01
SHOWN_TASKS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """One model: how many prompts it was scored on, its means (cost in USD, latency in seconds), sole wins."""

    name: str
    scored: int
    coverage: float
    score: float | None
    cost_usd: float | None
    latency_s: float | None
    only_best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A data set in figures. Shares are of the rows with at least two scored models, 0 to 1.

    `ties`: several models share the best score. `equal`: all models have the same score, so that the choice
    does not matter. `all_zero`: no model gets anything. `best_single` is the model with the highest mean score
    among those that were scored on at least half of the rows; `best_score`, `random_score` and `oracle_score`
    are means over rows: of that model, of a model picked at random, of the best model of each row. Lengths are
    in characters.
    """

    rows: int
    preferences: int
    comparable: int
    repeated_texts: int
    without_text: int
    models: tuple[ModelStatistics, ...]
    best_single: str | None
    best_score: float | None
    random_score: float | None
    oracle_score: float | None
    ties: float
    equal: float
    all_zero: float
    tasks: dict[str, int]
    languages: dict[str, int]
    lengths: dict[str, int]
    with_costs: float
    live: int
    with_propensities: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Everything, for `orjson.dumps`."""
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    scored: int = 0
    score: float = 0.0
    priced: int = 0
    cost: float = 0.0
    timed: int = 0
    latency: float = 0.0
    only_best: int = 0


class Collector:
    """Adds up what passes; `watch` lets records through, so that one pass is enough for several purposes."""

    def __init__(self) -> None:
        self._models: dict[str, _Sums] = {}
        self._counts: Counter[str] = Counter()
        self._tasks: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._texts: set[int] = set()
        self._lengths = array("q")
        self._oracle = 0.0
        self._random = 0.0

    def watch(self, source: Iterable[Record | Preference]) -> Iterator[Record | Preference]:
        """Count and pass on."""
        for item in source:
            self.add(item)
            yield item

    def add(self, item: Record | Preference) -> None:
        """Count one."""
        self._text(item.text)
        self._tasks[item.task] += 1
        if isinstance(item, Preference):
            self._counts["preferences"] += 1
            for model in (item.model_a, item.model_b):
                self._models.setdefault(model, _Sums())
            return
        self._counts["rows"] += 1
        self._counts["with_costs"] += bool(item.costs)
        self._counts["live"] += item.chosen is not None
        self._counts["with_propensities"] += bool(item.propensities)
        self._measurements(item)
        if item.scores:
            self._compare(item.scores)

    def _text(self, text: str) -> None:
        if not text:
            self._counts["without_text"] += 1
            return
        key = text_hash(text)
        self._counts["repeated"] += key in self._texts
        self._texts.add(key)
        self._lengths.append(len(text))
        self._languages[language(text)] += 1

    def _measurements(self, record: Record) -> None:
        for model, score in record.scores.items():
            sums = self._models.setdefault(model, _Sums())
            sums.scored += 1
            sums.score += score
        for model, cost in record.costs.items():
            sums = self._models.setdefault(model, _Sums())
            sums.priced += 1
            sums.cost += cost
        for model, latency in record.latencies.items():
            sums = self._models.setdefault(model, _Sums())
            sums.timed += 1
            sums.latency += latency

    def _compare(self, scores: Mapping[str, float]) -> None:
        values = list(scores.values())
        best, worst = max(values), min(values)
        self._counts["scored"] += 1
        self._oracle += best
        self._random += sum(values) / len(values)
        if len(values) < 2:
            return
        self._counts["comparable"] += 1
        leaders = [model for model, score in scores.items() if score >= best - EQUAL]
        self._counts["ties"] += len(leaders) > 1
        self._counts["equal"] += best - worst <= EQUAL
        self._counts["all_zero"] += best <= EQUAL
        if len(leaders) == 1:
            self._models[leaders[0]].only_best += 1

    def finish(self) -> Statistics:
        """The figures so far."""
        counts, rows, comparable = self._counts, self._counts["rows"], self._counts["comparable"]
        scored = counts["scored"]
        models = tuple(self._model(name, sums) for name, sums in sorted(self._models.items()))
        eligible = [one for one in models if one.score is not None and one.coverage >= 0.5]
        best = max(eligible, key=lambda one: one.score or 0.0, default=None)
        found = Statistics(
            rows=rows,
            preferences=counts["preferences"],
            comparable=comparable,
            repeated_texts=counts["repeated"],
            without_text=counts["without_text"],
            models=models,
            best_single=None if best is None else best.name,
            best_score=None if best is None else best.score,
            random_score=self._random / scored if scored else None,
            oracle_score=self._oracle / scored if scored else None,
            ties=_share(counts["ties"], comparable),
            equal=_share(counts["equal"], comparable),
            all_zero=_share(counts["all_zero"], comparable),
            tasks=dict(self._tasks.most_common(SHOWN_TASKS)),
            languages=dict(self._languages.most_common()),
            lengths=_quantiles(self._lengths),
            with_costs=_share(counts["with_costs"], rows),
            live=counts["live"],
            with_propensities=counts["with_propensities"],
            warnings=(),
        )
        return replace(found, warnings=tuple(remarks(found)))

    def _model(self, name: str, sums: _Sums) -> ModelStatistics:
        return ModelStatistics(
            name=name,
            scored=sums.scored,
            coverage=_share(sums.scored, self._counts["scored"]),
            score=sums.score / sums.scored if sums.scored else None,
            cost_usd=sums.cost / sums.priced if sums.priced else None,
            latency_s=sums.latency / sums.timed if sums.timed else None,
            only_best=_share(sums.only_best, self._counts["comparable"]),
        )


def statistics(source: Iterable[Record | Preference]) -> Statistics:
    """The figures of a data set."""
    collector = Collector()
    for item in source:
        collector.add(item)
    return collector.finish()


def remarks(found: Statistics) -> Iterator[str]:
    """What a person should know before training on this."""
    if found.rows and found.comparable == 0:
        yield "no row has scores of two models: nothing says which one to choose"
    if 0 < found.comparable < FEW_ROWS:
        yield f"{found.comparable} comparable rows: below {FEW_ROWS} the untrained prior is usually as good"
    if found.ties >= 0.5:
        yield f"{found.ties:.0%} of rows have several best models: a single best label would be noise"
    if found.equal >= 0.5:
        yield f"{found.equal:.0%} of rows have the same score for every model: only the cost can differ"
    if found.all_zero >= 0.2:
        yield f"on {found.all_zero:.0%} of rows no model succeeds: check the scoring"
    if found.repeated_texts:
        yield f"{found.repeated_texts} texts are repeated; splits keep them together"
    yield from _model_remarks(found)
    yield from _cost_remarks(found)


def _model_remarks(found: Statistics) -> Iterator[str]:
    few = [one.name for one in found.models if 0 < one.scored < FEW_LABELS]
    if few:
        yield f"fewer than {FEW_LABELS} scores: {', '.join(few[:10])}"
    unscored = [one.name for one in found.models if not one.scored]
    if unscored and found.rows:
        yield f"no scores at all: {', '.join(unscored[:10])}"
    if found.best_score is not None and found.oracle_score is not None:
        gap = found.oracle_score - found.best_score
        if gap < SMALL_GAP:
            yield f"the oracle is {gap:.4f} above {found.best_single}: routing can save cost, not add quality"


def _cost_remarks(found: Statistics) -> Iterator[str]:
    if found.rows and found.with_costs < 0.5:
        yield f"costs in {found.with_costs:.0%} of rows: give a price list, or list prices are used"
    if found.live and found.with_propensities < found.live:
        missing = found.live - found.with_propensities
        yield f"{missing} live rows without propensities: they cannot support off-policy estimates"
    if found.live:
        yield "live rows score only the model that was chosen: estimates favour what the log tried"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _quantiles(lengths: array[int]) -> dict[str, int]:
    if not lengths:
        return {}
    values = np.percentile(np.frombuffer(lengths, dtype=np.int64), (0, 50, 90, 99, 100))
    return dict(zip(("min", "p50", "p90", "p99", "max"), map(int, values), strict=True))
