"""A synthetic data set that routing can win on, and what every estimator has to stand."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from routeiq.strategies.estimator import Estimator
from routeiq.training.table import Table

Fit = Callable[[Table], Estimator]
Matrix = npt.NDArray[np.float32]
DIMENSION = 8
"""Columns of the embedding; two lexical ones follow."""
TOPICS = 4


def synthetic(rows: int = 600, models: int = 3, *, seed: int = 0) -> Table:
    """Prompts of four topics; each model is good at other topics, so that none is best everywhere."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, TOPICS, rows)
    centres = np.random.default_rng(99).normal(size=(TOPICS, DIMENSION)) * 1.5
    embedding = centres[topic] + 0.5 * rng.normal(size=(rows, DIMENSION))
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    lexical = rng.random((rows, 2))
    strength = 0.15 + 0.7 * ((topic[:, None] + np.arange(models)) % TOPICS == 0)
    p = np.clip(strength + 0.1 * (lexical[:, :1] - 0.5), 0.0, 1.0)
    scores = (rng.random((rows, models)) < p).astype(np.float32)
    features = np.concatenate([embedding, lexical], axis=1).astype(np.float32)
    return table(features, scores)


def table(features: Matrix, scores: Matrix, preferences: Matrix | None = None) -> Table:
    """A table with nothing but features, scores and preferences."""
    rows, models = scores.shape
    unknown = np.full((rows, models), np.nan, dtype=np.float32)
    return Table(
        ids=tuple(f"row-{i}" for i in range(rows)),
        tasks=("",) * rows,
        models=tuple(f"model-{m}" for m in range(models)),
        features=features.astype(np.float32),
        fingerprint="synthetic",
        scores=scores.astype(np.float32),
        costs=unknown,
        latencies=unknown,
        output_tokens=unknown,
        weights=np.ones(rows, dtype=np.float32),
        preferences=np.empty((0, 4), np.float32) if preferences is None else preferences,
        prior=np.full(rows, 0.5, dtype=np.float32),
    )


def accuracy(quality: Matrix, scores: Matrix) -> float:
    """Mean score of the model with the best predicted quality."""
    return float(scores[np.arange(len(scores)), quality.argmax(axis=1)].mean())


def predicted(estimator: Estimator, x: Matrix) -> Matrix:
    """Predictions, checked: shape, type, finite, in [0, 1]."""
    out = estimator.predict(x)
    assert out.shape == (len(x), len(estimator.models))
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    return out


def check_beats_the_dummies(fit: Fit) -> None:
    """Better than the best single model and than chance, on rows that it never saw."""
    known, new = synthetic(seed=0), synthetic(400, seed=1)
    quality = predicted(fit(known), new.features)
    best_single = float(new.scores.mean(axis=0).max())
    assert accuracy(quality, new.scores) > best_single + 0.15
    assert accuracy(quality, new.scores) > float(new.scores.mean()) + 0.2


def check_calibrated(fit: Fit, *, within: float = 0.05) -> None:
    """Predicted qualities mean what they say, and each model keeps its level."""
    known, new = synthetic(1200, seed=0), synthetic(4000, seed=1)
    quality = predicted(fit(known), new.features)
    for lo, hi in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.01)):
        inside = (quality >= lo) & (quality < hi)
        if inside.sum() > 500:
            assert abs(float(quality[inside].mean() - new.scores[inside].mean())) < within
    assert np.abs(quality.mean(axis=0) - new.scores.mean(axis=0)).max() < within


def check_round_trip(fit: Fit, restore: type[Estimator]) -> None:
    """`restore(state())` predicts exactly the same, from read-only arrays and settings that went through JSON."""
    known, new = synthetic(300), synthetic(50, seed=2)
    estimator = fit(known)
    arrays, settings = estimator.state()
    for one in arrays.values():
        one.flags.writeable = False
    again = restore.restore(known.models, arrays, json.loads(json.dumps(settings)))
    assert np.array_equal(again.predict(new.features), estimator.predict(new.features))
    kept, _ = again.state()
    assert set(kept) == set(arrays)
    assert all(np.array_equal(kept[name], arrays[name], equal_nan=True) for name in arrays)
    json.dumps(again.explain(new.features[:1]))  # for people, over HTTP


def check_refuses_damage(fit: Fit, restore: type[Estimator]) -> list[str]:
    """Messages of the errors for each array that is gone, and for each that has a dimension too many."""
    known = synthetic(120)
    arrays, settings = fit(known).state()
    messages = []
    for name in arrays:
        for damaged in (
            {k: v for k, v in arrays.items() if k != name},
            arrays | {name: arrays[name][None]},
        ):
            try:
                restore.restore(known.models, damaged, settings)
            except ValueError as error:
                messages.append(str(error))
            else:
                raise AssertionError(f"array {name!r} was damaged and nobody noticed")
    return messages


def check_missing_scores(fit: Fit) -> None:
    """A third of the scores is enough, a model without any gets a finite level, and NaN never counts as 0."""
    known, new = synthetic(1500, seed=0), synthetic(400, seed=1)
    scores = known.scores.copy()
    scores[np.random.default_rng(5).random(scores.shape) < 0.67] = np.nan
    holes = table(known.features, scores)
    quality = predicted(fit(holes), new.features)
    assert accuracy(quality, new.scores) > float(new.scores.mean(axis=0).max()) + 0.1
    assert np.abs(quality.mean(axis=0) - new.scores.mean(axis=0)).max() < 0.1
    scores[:, 1] = np.nan
    predicted(fit(table(known.features, scores)), new.features)


def check_small_and_strange(fit: Fit) -> None:
    """One model, constant scores, and fewer rows than neighbours, clusters or folds."""
    known = synthetic(200)
    alone = fit(table(known.features, known.scores[:, :1]))
    assert abs(float(predicted(alone, known.features).mean() - known.scores[:, 0].mean())) < 0.1
    constant = np.tile(np.array([1.0, 0.0, 0.5], np.float32), (200, 1))
    level = predicted(fit(table(known.features, constant)), known.features).mean(axis=0)
    assert level[0] > 0.9
    assert level[1] < 0.1
    assert abs(float(level[2]) - 0.5) < 0.1
    for rows in (1, 2, 7):
        few = known.take(np.arange(rows))
        predicted(fit(few), known.features[:5])
    same = table(np.tile(known.features[:1], (50, 1)), known.scores[:50])
    predicted(fit(same), known.features[:5])


def check_deterministic(fit: Fit) -> None:
    """The same rows give the same arrays, bit by bit."""
    first, second = fit(synthetic(200)).state()[0], fit(synthetic(200)).state()[0]
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)
