"""One labelled data set: split, train, serve from the artifact, judge on the rows that were not trained on."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.training.build import build_table
from routeiq.training.evaluation.curves import hull
from routeiq.training.evaluation.metrics import calibration
from routeiq.training.evaluation.outcomes import Outcomes, from_table
from routeiq.training.evaluation.report import PRIOR, Entry, Report, Settings, evaluate
from routeiq.training.fitting.train import train
from routeiq.training.reading import read
from routeiq.training.scoring import ArtifactScorer, prior_scores
from routeiq.training.splits import split_table
from routeiq.training.table import Table

from . import kernel

Result = dict[str, Any]
Array = npt.NDArray[np.float64]
TEST_SHARE = 0.3
SAME = ("data_sha256", "seed", "test_share", "resamples", "train_rows", "test_rows")
"""What must agree for figures of an earlier run to be kept."""
DRAWS = 3
"""Random subsets for each number of labels."""
FEW_KIND = "hybrid"
LEAST_TASK_ROWS = 10
CHANCES = 10
"""Draws for `chance_ece`."""
DIGITS = 5
PACKAGES = ("routeiq-router", "numpy", "scikit-learn", "litellm")


class Measurement:
    """A data set with its two parts."""

    def __init__(
        self, file: Path, *, seed: int, resamples: int, max_rows: int | None = None
    ) -> None:
        self.name = file.name.partition(".")[0]
        self._seed = seed
        self._resamples = resamples
        self._file = file.name
        table = build_table(read(file), keep_texts=True, max_rows=max_rows)
        self._digest = table.digest
        shares = (1.0 - TEST_SHARE, 0.0, TEST_SHARE)
        self._train, _, self._test = split_table(table, shares=shares, seed=seed)
        self._data = from_table(self._test)

    def begin(self, earlier: Result | None, *, command: str) -> Result:
        """The result with baselines and everything of an earlier run that still holds."""
        header: Result = {
            "set": self.name,
            "file": self._file,
            "command": command,
            "data_sha256": self._digest,
            "seed": self._seed,
            "test_share": TEST_SHARE,
            "resamples": self._resamples,
            "train_rows": len(self._train),
            "test_rows": len(self._test),
            "models": len(self._test.models),
            "task_count": len(set(self._test.tasks)),
            "tasks": {task: int(rows.sum()) for task, rows in self._tasks()},
            "machine": kernel.machine(),
            "versions": versions(),
        }
        if earlier is not None and all(earlier.get(key) == header[key] for key in SAME):
            return {**earlier, **header}
        return {**header, **self._baselines(), "strategies": {}}

    def _baselines(self) -> Result:
        prior = prior_scores(self._test).astype(np.float64)
        report = evaluate({PRIOR: prior}, self._data, self._settings(litellm=True))
        tasks = {
            task: {
                entry.name: figures(entry)
                for entry in evaluate(
                    {PRIOR: prior[rows]}, self._data.take(rows), self._settings(litellm=True)
                ).entries
            }
            for task, rows in self._tasks()
        }
        return {
            "reference": report.reference,
            "pair": report.pair,
            "baselines": {entry.name: line(entry) for entry in report.entries},
            "singles": [
                {"model": s.model, "quality": short(s.accuracy), "usd_1k": short(s.cost_usd_per_1k)}
                for s in report.singles
            ],
            "baselines_by_task": tasks,
            "date": today(),
        }

    def strategy(self, kind: str) -> Result:
        """Train one kind and judge it."""
        q, about = self._fit(kind, self._train)
        entry = self._judge(kind, q, self._data).entry(kind)
        by_task = {
            task: figures(self._judge(kind, q[rows], self._data.take(rows)).entry(kind))
            for task, rows in self._tasks()
        }
        chance = short(chance_ece(q, self._data, seed=self._seed))
        return {
            **line(entry),
            "chance_ece": chance,
            "by_task": by_task,
            **about,
            "date": today(),
        }

    def few(self, sizes: tuple[int, ...]) -> Result:
        """What the default strategy reaches with few labels: means over random subsets of the training rows."""
        found: Result = {}
        for size in sizes:
            if size >= len(self._train):
                continue
            runs = [self._draw(size, draw) for draw in range(DRAWS)]
            found[str(size)] = {key: short(mean([run[key] for run in runs])) for key in runs[0]}
        return {"kind": FEW_KIND, "draws": DRAWS, "by_rows": found, "date": today()}

    def _draw(self, size: int, draw: int) -> dict[str, float]:
        rows = np.random.default_rng([self._seed, draw]).permutation(len(self._train))[:size]
        q, _ = self._fit(FEW_KIND, self._train.take(np.sort(rows)))
        report = evaluate({FEW_KIND: q}, self._data, self._settings(resamples=0))
        found = dict(report.entry(FEW_KIND).metrics)
        for task, of in self._tasks():
            part = evaluate({FEW_KIND: q[of]}, self._data.take(of), self._settings(resamples=0))
            found[f"apgr {task}"] = part.entry(FEW_KIND).metrics["apgr"]
        return found

    def _fit(self, kind: str, table: Table) -> tuple[Array, Result]:
        """Predictions for the test rows, read back from the artifact that would be served."""
        load, began = os.getloadavg()[0], time.process_time()
        fitted = train(kind, table, seed=self._seed, settings={"measure": False})
        seconds = time.process_time() - began
        arrays, settings = fitted.estimator.state()
        draft = Draft(
            strategy=kind,
            features=table.fingerprint,
            models=fitted.estimator.models,
            arrays=arrays,
            settings={**fitted.settings, "features": "static", "estimator": settings},
            metrics=fitted.metrics,
            data_sha256=table.digest,
        )
        with TemporaryDirectory() as folder:
            artifact = Path(folder) / kind
            write_artifact(artifact, draft)
            size = sum(each.stat().st_size for each in artifact.rglob("*") if each.is_file())
            q = ArtifactScorer(open_artifact(artifact)).scores(self._test).astype(np.float64)
        return q, {
            "training_cpu_s": round(seconds, 2),
            "artifact_mb": round(size / 1e6, 2),
            "load_average": round(load, 2),
        }

    def _judge(self, kind: str, q: Array, data: Outcomes) -> Report:
        return evaluate({kind: q}, data, self._settings())

    def _settings(self, *, litellm: bool = False, resamples: int | None = None) -> Settings:
        count = self._resamples if resamples is None else resamples
        return Settings(resamples=count, seed=self._seed, litellm=litellm)

    def _tasks(self) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        """The rows of each task, where a strong and a weak model are compared: their tasks differ by far."""
        if len(self._test.models) != 2:
            return []
        names = np.array(self._data.tasks)
        found = [(str(task), names == task) for task in sorted(set(self._data.tasks))]
        return [(task, rows) for task, rows in found if rows.sum() >= LEAST_TASK_ROWS]


def line(entry: Entry) -> Result:
    """A line of a report with its curve: the hull's corners, USD per 1,000 requests and quality."""
    x, y = hull(entry.cost, entry.quality)
    curve = [
        [short(1000.0 * a), short(b)] for a, b in zip(x[1:].tolist(), y[1:].tolist(), strict=True)
    ]
    return {**figures(entry), "curve": curve}


def figures(entry: Entry) -> Result:
    """Figures and intervals of a line of a report; what is not finite is left out."""
    spans = {key: [short(low), short(high)] for key, (low, high) in entry.intervals.items()}
    return {"metrics": shortened(entry.metrics), "intervals": spans}


def shortened(values: Mapping[str, float]) -> dict[str, float | None]:
    """All values with few digits."""
    return {key: short(value) for key, value in values.items()}


def short(value: float) -> float | None:
    """Five significant digits; `None` for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def chance_ece(q: Array, data: Outcomes, *, seed: int) -> float:
    """The calibration error that these predictions would show on so many rows if they were exactly right.

    With few rows in a bin its mean differs from any prediction by chance alone.
    """
    rng = np.random.default_rng(seed)
    drawn = [
        np.where(data.known, (rng.random(q.shape) < q).astype(np.float64), np.nan)
        for _ in range(CHANCES)
    ]
    columns = range(q.shape[1])
    return mean([calibration(q[:, m], one[:, m]).error for one in drawn for m in columns])


def mean(values: list[float]) -> float:
    """The mean, NaN where one is."""
    return sum(values) / len(values)


def today() -> str:
    """The date in UTC."""
    return datetime.now(UTC).date().isoformat()


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
