"""The statistics of a data set for a person."""

from __future__ import annotations

from collections.abc import Iterator

from .deduplication import Leakage
from .statistics import ModelStatistics, Statistics


def render(found: Statistics) -> str:
    """Several lines: the set, its models as a table, tasks, warnings."""
    return "\n".join(
        (*_head(found), "", *_models(found), "", *_parts(found), *_warnings(found.warnings))
    )


def render_leakage(found: Leakage, name: str) -> str:
    """One line on what test rows were seen in training."""
    return (
        f"leakage: {len(found.exact)} exact and {len(found.near)} near duplicates of {name} in "
        f"{found.test_rows} rows ({found.share:.2%}), compared with {found.train_rows}"
    )


def _head(found: Statistics) -> Iterator[str]:
    yield f"{found.rows} rows, {len(found.models)} models, {found.preferences} preferences"
    if found.lengths:
        lengths = ", ".join(f"{name} {value}" for name, value in found.lengths.items())
        yield f"characters: {lengths}"
    if found.comparable:
        yield (
            f"several best models in {found.ties:.1%} of rows, all equal in {found.equal:.1%}, "
            f"all zero in {found.all_zero:.1%}"
        )
    if found.best_single is not None:
        yield (
            f"best single {found.best_single} {_figure(found.best_score)}, "
            f"random {_figure(found.random_score)}, oracle {_figure(found.oracle_score)}"
        )
    if found.live:
        yield f"live traffic: {found.live} rows, {found.with_propensities} with propensities"


def _models(found: Statistics) -> Iterator[str]:
    yield f"{'model':40} {'scored':>8} {'score':>7} {'USD/1k':>9} {'seconds':>8} {'only best':>9}"
    for one in sorted(found.models, key=lambda model: -(model.score or 0.0)):
        yield _model(one)


def _model(one: ModelStatistics) -> str:
    cost = "-" if one.cost_usd is None else f"{1000 * one.cost_usd:.4f}"
    latency = "-" if one.latency_s is None else f"{one.latency_s:.2f}"
    return (
        f"{one.name:40} {one.scored:8} {_figure(one.score):>7} {cost:>9} {latency:>8} "
        f"{one.only_best:9.1%}"
    )


def _parts(found: Statistics) -> Iterator[str]:
    for name, counts in (("tasks", found.tasks), ("languages", found.languages)):
        shown = ", ".join(f"{part or '(none)'} {count}" for part, count in counts.items())
        if shown:
            yield f"{name}: {shown}"


def _warnings(warnings: tuple[str, ...]) -> Iterator[str]:
    for warning in warnings:
        yield f"note: {warning}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
