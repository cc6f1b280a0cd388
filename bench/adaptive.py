"""Online learning, replayed: `python -m bench.adaptive --data FILE` (any labelled data set with several models).

Every request of the file comes once, in random order; the learner sees the score of the model that it chose and
nothing else. The offline part is fitted on `--labels` rows that do not come again (0: out of fold on all rows).
With `drift` the best single model loses 40 % of its successes from the middle on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson

from routeiq.strategies.adaptive import AdaptiveStrategy
from routeiq.strategies.cluster import Centroids
from routeiq.strategies.linucb import LinearBandit
from routeiq.strategies.posterior import ClusterPosteriors, Exploration
from routeiq.training.build import build_table
from routeiq.training.fitting.cluster import find_centres, nearest, usable
from routeiq.training.fitting.folds import fold_of, out_of_fold
from routeiq.training.fitting.linucb import fit_linucb
from routeiq.training.fitting.space import fit_space
from routeiq.training.reading import read
from routeiq.training.table import Table

LOSS = 0.4
ALPHA = 0.1


@dataclass
class World:
    """Requests, what is predicted for them, and what their answers are worth."""

    scores: Any
    predicted: Any
    cells: Any
    points: Any
    start: LinearBandit
    rows: Any
    count: int


@dataclass
class Run:
    """What one policy earned, request by request, and when it raised alarms."""

    rewards: list[float] = field(default_factory=list)
    alarms: list[int] = field(default_factory=list)


def prepare(table: Table, base: str, labels: int, seed: int) -> World:
    """Fit the offline part on some rows, predict the others."""
    fit: Callable[..., Any] = getattr(
        import_module(f"routeiq.training.fitting.{base}"), f"fit_{base}"
    )
    order = np.random.default_rng(seed).permutation(len(table))
    if labels:
        known, rows = table.take(np.sort(order[:labels])), np.sort(order[labels:])
        predicted = fit(known, seed=seed).predict(table.features)
    else:
        known, rows = table, np.arange(len(table))
        fold = fold_of(table.ids, 5, seed=seed)
        predicted = out_of_fold(
            lambda kept: fit(table.take(kept), seed=seed).predict,
            table.features,
            fold,
            len(table.models),
        )
    space = fit_space(known.features)
    centres = find_centres(known, space, usable((32,), len(known))[0], seed=seed)
    cells = nearest(table.features, Centroids(space, centres, 1, 1.0))
    linear = fit_linucb(known)
    start = LinearBandit(linear.theta, linear.inverse)
    return World(
        np.nan_to_num(table.scores), predicted, cells, linear.project(table.features), start, rows,
        len(centres),
    )  # fmt: skip


def static(world: World, seed: int, drift: bool) -> Run:
    """The offline predictions, never moved."""
    return _replay(world, seed, drift, lambda row: (int(world.predicted[row].argmax()), 0.0), None)


def single(world: World, seed: int, drift: bool) -> Run:
    """The model that is best on average before anything changes."""
    best = int(world.scores[world.rows].mean(axis=0).argmax())
    return _replay(world, seed, drift, lambda row: (best, 0.0), None)


def adaptive(world: World, seed: int, drift: bool) -> Run:
    """What the `adaptive` strategy does, at its defaults."""
    at = AdaptiveStrategy.Options()
    exploration = Exploration(at.exploration, at.alarm_exploration, at.alarm_half_life)
    learned = ClusterPosteriors(world.count)
    names = [str(index) for index in range(world.scores.shape[1])]

    def choose(row: int) -> tuple[int, float]:
        cell, offline = int(world.cells[row]), world.predicted[row].tolist()
        moved = [p + learned.move(m, cell) for m, p in zip(names, offline, strict=True)]
        return int(np.argmax(moved)), exploration.next()

    def learn(row: int, model: int, reward: float) -> bool:
        offline = float(world.predicted[row, model])
        found = learned.learn(names[model], int(world.cells[row]), reward, offline)
        if found is not None:
            exploration.alarm()
        return found is not None

    return _replay(world, seed, drift, choose, learn)


def linucb(world: World, seed: int, drift: bool, *, cold: bool = False) -> Run:
    """The bandit of the `linucb` strategy, from its offline fit or from nothing."""
    start = world.start
    theta, inverse = start.theta, start.inverse
    if cold:
        theta = np.zeros_like(theta)
        inverse = np.tile(np.eye(theta.shape[1]), (len(theta), 1, 1))
    bandit = LinearBandit(theta, inverse, forgetting=0.999)

    def choose(row: int) -> tuple[int, float]:
        z = world.points[row]
        return int((bandit.means(z) + ALPHA * bandit.widths(z)).argmax()), 0.0

    def learn(row: int, model: int, reward: float) -> bool:
        bandit.learn(model, world.points[row], reward)
        return False

    return _replay(world, seed, drift, choose, learn)


def _replay(world: World, seed: int, drift: bool, choose: Any, learn: Any) -> Run:
    rng = np.random.default_rng(seed)
    order = rng.permutation(world.rows)
    best = int(world.scores[world.rows].mean(axis=0).argmax())
    lucky = rng.random(len(order))
    run = Run()
    for at, row in enumerate(order.tolist()):
        model, explore = choose(row)
        if rng.random() < explore:
            model = int(rng.integers(world.scores.shape[1]))
        reward = float(world.scores[row, model])
        if drift and at >= len(order) // 2 and model == best and lucky[at] < LOSS:
            reward = 0.0
        run.rewards.append(reward)
        if learn is not None and learn(row, model, reward):
            run.alarms.append(at)
    return run


def summary(world: World, policy: Any, seeds: int) -> dict[str, Any]:
    """Means over the seeds; a delay of `None` is an alarm that never came."""
    calm = [policy(world, seed, drift=False) for seed in range(seeds)]
    rough = [policy(world, seed, drift=True) for seed in range(seeds)]
    half = len(world.rows) // 2
    delays = [min((a - half for a in run.alarms if a >= half), default=None) for run in rough]
    return {
        "stationary": float(np.mean([np.mean(run.rewards) for run in calm])),
        "false_alarms": float(np.mean([len(run.alarms) for run in calm])),
        "after_drift": float(np.mean([np.mean(run.rewards[half:]) for run in rough])),
        "alarm_delays": delays,
    }


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--base", default="hybrid", show_default=True, help="Kind of the offline estimator.")
@click.option(
    "--labels", default=200, show_default=True, help="Rows it is fitted on; 0: out of fold."
)
@click.option("--seeds", default=10, show_default=True)
def main(data: Path, base: str, labels: int, seeds: int) -> None:
    """Print what each policy earns per request, as JSON."""
    table = build_table(read(data))
    world = prepare(table, base, labels, seed=0)
    policies: dict[str, Any] = {
        "best single": single,
        "static": static,
        "adaptive": adaptive,
        "linucb": linucb,
        "linucb cold": lambda w, s, drift: linucb(w, s, drift, cold=True),
    }
    for name, policy in policies.items():
        began = time.perf_counter()
        found = summary(world, policy, seeds)
        found["seconds"] = round(time.perf_counter() - began, 1)
        click.echo(orjson.dumps({"policy": name, **found}).decode())


if __name__ == "__main__":
    main()
