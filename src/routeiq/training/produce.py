"""From files to an artifact: what `routeiq models train` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.artifacts.manifest import Manifest
from routeiq.artifacts.signature import Signer, signer_from
from routeiq.embeddings.features import Features, load_features
from routeiq.strategies.loading import TWIN

from .build import build_table
from .card import with_card
from .deduplication import merge_duplicates
from .errors import DataError
from .features import open_features
from .fitting.train import SAME, sampled, train
from .reading import read
from .table import Table

Progress = Callable[[str], None]
FEWEST_ROWS = 10
"""Below this there is nothing to learn from; the prior serves better."""
ENOUGH_ROWS = 200
"""From about here on a trained strategy is better than the best single model."""
ENOUGH_LABELS = 50
"""Scores of one model from which on its predictions are more than its mean."""
MANY_TIES = 0.8
"""Share of rows without a best model from which on somebody may wonder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be trained, on what, and where the artifact goes."""

    strategy: str
    files: tuple[Path, ...]
    out: Path
    form: str | None = None
    seed: int = 0
    max_rows: int | None = None
    features: str = "static"
    sources: tuple[str, ...] = ()
    prior_weight: float | None = None
    private_key: str | None = None
    hmac_key: str | None = None
    environment: Mapping[str, str] | None = None


def produce(order: Order, progress: Progress) -> Manifest:
    """Read, fit, measure, write, sign.

    Raises:
        DataError: the data cannot be used (`problems` has the rows), or is too little.
        ConfigError: no such strategy, features or key.
        ArtifactError: the artifact cannot be written.
    """
    signer = _signer(order)
    features = open_features(order.features, order.environment)
    progress(f"reading {', '.join(str(path) for path in order.files)}")
    records = read(list(order.files), format=order.form)
    table = distinct(
        sampled(build_table(records, features=features, max_rows=order.max_rows), seed=order.seed),
        progress=progress,
    )
    progress(f"{len(table)} rows, {len(table.models)} models, {table.features.shape[1]} features")
    for warning in warnings(table):
        progress(f"warning: {warning}")
    fitted = train(order.strategy, table, seed=order.seed, progress=progress)
    arrays, settings = fitted.estimator.state()
    arrays, twin = with_twin(order, features, arrays, progress)
    weight = order.prior_weight
    if weight is None:
        weight = float(fitted.settings.get("prior_weight", 0.0))
    draft = Draft(
        strategy=SAME.get(order.strategy, order.strategy),
        features=features.fingerprint,
        models=fitted.estimator.models,
        arrays=arrays,
        settings={
            **fitted.settings,
            "features": order.features,
            "estimator": settings,
            "prior_weight": weight,
            "seed": order.seed,
            "rows": len(table),
            **twin,
        },
        metrics=fitted.metrics,
        data_sha256=table.digest,
    )
    draft = with_card(draft, {"sources": list(order.sources)})
    progress(f"writing {order.out}")
    return write_artifact(order.out, draft, signer=signer)


def with_twin(
    order: Order, features: Features, arrays: Mapping[str, Any], progress: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and settings of an artifact on slow features, with a twin on static ones beside it.

    The twin answers while the slow features of a prompt are not ready in time. It learns from the same files.
    """
    if not features.off_loop:
        return dict(arrays), {}
    progress("the same on static features, for when these are not ready in time")
    static = load_features()
    records = read(list(order.files), format=order.form)
    table = merge_duplicates(
        sampled(build_table(records, features=static, max_rows=order.max_rows), seed=order.seed)
    )
    fitted = train(order.strategy, table, seed=order.seed, settings={"measure": False})
    twin, settings = fitted.estimator.state()
    prefixed = {f"{TWIN}{name}": array for name, array in twin.items()}
    said = {"twin": {"features": static.fingerprint, "estimator": settings}}
    return {**arrays, **prefixed}, said


def distinct(table: Table, *, progress: Progress) -> Table:
    """The table with one row per text: what was asked twice must not count twice.

    Raises:
        DataError: too few rows are left to learn from.
    """
    merged = merge_duplicates(table)
    if len(merged) < len(table):
        progress(f"merged {len(table) - len(merged)} rows whose text was there before")
    if len(merged) < FEWEST_ROWS:
        raise DataError(
            f"{len(merged)} rows with different texts are too few to learn from; at least "
            f"{FEWEST_ROWS} are needed, and {ENOUGH_ROWS} are enough to beat the best single model."
        )
    return merged


def warnings(table: Table) -> list[str]:
    """What is no reason to stop, but explains figures that disappoint."""
    found = []
    if len(table) < ENOUGH_ROWS:
        found.append(
            f"{len(table)} rows are few: from about {ENOUGH_ROWS} on a trained strategy is better "
            "than the best single model; until then give it `--prior-weight 0.5`."
        )
    ties = tied(table)
    if ties > MANY_TIES:
        found.append(
            f"in {ties:.0%} of the rows all models are equally good. That is fine: scores are "
            "learned, not which model was best, and a tie says that the cheapest will do."
        )
    labels = np.isfinite(table.scores).sum(axis=0)
    np.add.at(labels, table.preferences[:, 1:3].astype(np.int64).ravel(), 1)
    few = [
        f"{name} ({count})"
        for name, count in zip(table.models, labels.tolist(), strict=True)
        if count < ENOUGH_LABELS
    ]
    if few:
        found.append(
            f"fewer than {ENOUGH_LABELS} labels for {', '.join(few)}: predictions for them lean on "
            "the models like them."
        )
    return found


def tied(table: Table) -> float:
    """Share of the rows with two scores or more in which all scores are the same."""
    known = np.isfinite(table.scores)
    several = known.sum(axis=1) > 1
    if not several.any():
        return 0.0
    scores = table.scores[several]
    return float((np.nanmax(scores, axis=1) == np.nanmin(scores, axis=1)).mean())


def _signer(order: Order) -> Signer | None:
    if order.private_key is None and order.hmac_key is None:
        return None
    return signer_from(private_key=order.private_key, hmac_key=order.hmac_key)
