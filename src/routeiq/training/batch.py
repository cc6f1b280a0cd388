"""Scoring files of prompts, and explaining one prompt: what `routeiq models score` and `inspect` do."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from routeiq.artifacts.artifact import open_artifact
from routeiq.routing.request import parse_request
from routeiq.strategies.prior import difficulty
from routeiq.types import RoutingRequest

from .errors import DataError, DataProblem
from .scoring import ArtifactScorer, Scorer, open_scorer
from .table import Table

BATCH = 2048
"""Rows in memory at a time."""
TEXTS = ("route_text", "text", "prompt")
"""Where a line's prompt may be; the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One prompt to score. `id` is written as it was read; `models` is empty where the line names none."""

    id: str | int
    text: str
    models: tuple[str, ...]
    costs: Mapping[str, float]
    number: int


def score_file(*, artifact: Path | None, strategy: str | None, data: Path, out: Path) -> int:
    """Score each line of `data` {id, route_text, models?, costs?} into `out` {id, scores}; how many there were.

    A line's models are `models`, else those of its `costs`, else all that the artifact knows. What a model costs
    is its mean over the file, so that a row's scores do not depend on its place; the file is read twice. `out` is
    there only when all is well.

    Raises:
        DataError: a line cannot be used (names its number), or a file cannot be read or written.
        ConfigError: neither or both of artifact and strategy, or a strategy that cannot score.
    """
    if not data.is_file():
        raise DataError(f"{data} must be a file: it is read twice.")
    scorer = open_scorer(artifact, strategy)
    costs = _mean_costs(data)
    part = out.with_name(f".{out.name}.part")
    try:
        with open(part, "wb") as file:
            count = 0
            lines = _lines(data)
            while batch := list(islice(lines, BATCH)):
                file.writelines(_scored(scorer, batch, costs, data))
                count += len(batch)
        os.replace(part, out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def inspect_prompt(artifact: Path, prompt: str) -> dict[str, Any]:
    """What an artifact predicts for one prompt, and what the estimator says about why."""
    scorer = ArtifactScorer(open_artifact(artifact))
    request = as_request("inspect", prompt)
    table = _table(scorer, [request], scorer.models, {})
    manifest = scorer.artifact.manifest
    predicted = scorer.scores(table)[0]
    return {
        "strategy": manifest.strategy,
        "version": manifest.version,
        "difficulty": difficulty(request),
        "scores": dict(zip(scorer.models, predicted.tolist(), strict=True)),
        "explanation": scorer.estimator.explain(table.features),
    }


def as_request(id: str, text: str) -> RoutingRequest:
    """A prompt as the gateway would see it: long ones cut, tokens counted."""
    messages = [{"role": "user", "content": text}]
    return parse_request("chat", {"model": "auto", "messages": messages}, id=id)


def _mean_costs(path: Path) -> dict[str, float]:
    """Mean USD of a request per model, of the models that the file has costs for."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for line in _lines(path):
        for name, usd in line.costs.items():
            sums[name] = sums.get(name, 0.0) + usd
            counts[name] = counts.get(name, 0) + 1
    return {name: total / counts[name] for name, total in sums.items()}


def _lines(path: Path) -> Iterator[Line]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _line(line, number, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _line(raw: bytes, number: int, path: Path) -> Line:
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _wrong(path, number, f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _wrong(path, number, 'must be {"id", "route_text", "models"?, "costs"?}')
    id, text = row.get("id"), next((row[name] for name in TEXTS if name in row), None)
    if isinstance(id, bool) or not isinstance(id, str | int):
        raise _wrong(path, number, "`id` must be a string or a whole number")
    if not isinstance(text, str):
        raise _wrong(path, number, "`route_text` must be a string")
    models = [] if row.get("models") is None else row["models"]
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise _wrong(path, number, "`models` must be a list of names")
    costs = {} if row.get("costs") is None else row["costs"]
    if not isinstance(costs, dict) or not all(map(_is_cost, costs.values())):
        raise _wrong(path, number, "`costs` must be names and USD of at least 0")
    known = {name: float(usd) for name, usd in costs.items() if usd is not None}
    return Line(id=id, text=text, models=tuple(models or costs), costs=known, number=number)


def _is_cost(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) and value >= 0


def _wrong(path: Path, number: int, message: str) -> DataError:
    return DataError([DataProblem(message=f"{message}.", file=str(path), row=number)])


def _scored(
    scorer: Scorer, lines: Sequence[Line], costs: Mapping[str, float], path: Path
) -> Iterator[bytes]:
    names = [line.models or scorer.models for line in lines]
    for line, wanted in zip(lines, names, strict=True):
        if not wanted:
            raise _wrong(path, line.number, "names no `models`, and the strategy knows none")
    models = list(dict.fromkeys(name for wanted in names for name in wanted))
    requests = [as_request(str(line.id), line.text) for line in lines]
    scores = scorer.scores(_table(scorer, requests, models, costs)).tolist()
    place = {name: index for index, name in enumerate(models)}
    for line, wanted, predicted in zip(lines, names, scores, strict=True):
        found = {"id": line.id, "scores": {name: predicted[place[name]] for name in wanted}}
        yield orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def _table(
    scorer: Scorer,
    requests: Sequence[RoutingRequest],
    models: Sequence[str],
    costs: Mapping[str, float],
) -> Table:
    count = len(requests)
    unknown = np.full((count, len(models)), np.nan, dtype=np.float32)
    usd = np.array([costs.get(name, np.nan) for name in models], dtype=np.float32)
    features = scorer.features if isinstance(scorer, ArtifactScorer) else None
    return Table(
        ids=tuple(request.id for request in requests),
        tasks=("",) * count,
        models=tuple(models),
        features=np.zeros((count, 0), np.float32) if features is None else features.many(requests),
        fingerprint="" if features is None else features.fingerprint,
        scores=unknown,
        costs=np.tile(usd, (count, 1)),
        latencies=unknown,
        output_tokens=unknown,
        weights=np.ones(count, dtype=np.float32),
        preferences=np.zeros((0, 4), dtype=np.float32),
        prior=np.array([difficulty(request) for request in requests], dtype=np.float32),
    )
