"""Made-up prompts, models and trained artifacts: for what is measured in milliseconds and megabytes.

Prompts are words of the static table's vocabulary, drawn by Zipf's law as words of a text are, so that the
tokenizer's cache of words helps as much as it does with real traffic, and no prompt comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from routeiq.artifacts.artifact import Draft, write_artifact
from routeiq.embeddings.features import load_features
from routeiq.embeddings.static import open_table
from routeiq.routing.request import parse_request
from routeiq.training.build import build_table
from routeiq.training.fitting.train import train
from routeiq.training.records import Record
from routeiq.training.table import Table
from routeiq.types import Deployment, ModelFacts, RoutingRequest

MODELS = 10
TRAIN_ROWS = 4_000
TRAIN_TOKENS = 60
KNN_ROWS = 100_000
ZIPF = 1.07
"""Exponent of the rank. At this one features take as long as on questions of public benchmarks of that length."""
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"decay": 2.0, "epochs": 10, "width": 48},
    "mf": {"decay": 2.0, "epochs": 20, "rank": 12},
    "irt": {"decay": 5.0, "epochs": 30, "rank": 8},
}
"""The largest that training searches: no time is spent on a search whose winner is made up anyway."""


def model_names(count: int = MODELS) -> tuple[str, ...]:
    """Names that no price table knows."""
    return tuple(f"model-{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:count])


def deployments(count: int = MODELS) -> tuple[Deployment, ...]:
    """One for each model, at prices from 0.1 to 10 USD per million input tokens."""
    found = []
    for index, name in enumerate(model_names(count)):
        price = 0.1e-6 * 100 ** (index / max(1, count - 1))
        facts = ModelFacts(
            input_usd_per_token=price, output_usd_per_token=4 * price, context_tokens=128_000
        )
        found.append(Deployment(id=name, group=name, provider="openai", model=name, facts=facts))
    return tuple(found)


def texts(count: int, tokens: int, *, seed: int = 0) -> Iterator[str]:
    """Distinct texts of so many word pieces, or one word's more."""
    tokenizer = open_table().tokenizer()
    words = _words()
    rng = np.random.default_rng(seed)
    chance = 1.0 / np.arange(1, len(words) + 1) ** ZIPF
    chance /= chance.sum()
    lengths: dict[str, int] = {}
    for number in range(count):
        parts, length = [f"Q{seed}n{number}:"], 4
        for index in rng.choice(len(words), size=tokens, p=chance).tolist():
            word = words[index]
            if word not in lengths:
                lengths[word] = len(tokenizer.encode(word))
            length += lengths[word]
            parts.append(word if len(parts) % 12 else f"{word}.")
            if length >= tokens:
                break
        yield " ".join(parts) + "?"


def _words() -> list[str]:
    vocabulary = open_table().vocabulary
    raw, ends = vocabulary.words.tobytes(), vocabulary.offsets.tolist()
    whole = [raw[a:b].decode("utf-8", "replace") for a, b in pairwise(ends)]
    return [word for word in whole if len(word) > 1 and word.isascii() and word.isalpha()]


def stream(count: int, tokens: int, *, seed: int = 0) -> Iterator[RoutingRequest]:
    """Parsed chat requests for `auto`, as the gateway hands them to the router."""
    for text in texts(count, tokens, seed=seed):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        yield parse_request("chat", body, id="made-up")


def table(rows: int = TRAIN_ROWS, *, models: int = MODELS, seed: int = 0) -> Table:
    """A labelled table of made-up prompts: each model is good at some directions of the features."""
    names = model_names(models)
    rng = np.random.default_rng(seed)
    prompts = list(texts(rows, TRAIN_TOKENS, seed=seed + 1_000))
    blank = build_table(
        Record(id=str(i), text=text, scores=dict.fromkeys(names, 0.0), task=f"task {i % 8}")
        for i, text in enumerate(prompts)
    )
    width = blank.features.shape[1]
    skill = rng.normal(size=(width, models)) * 3.0
    logits = blank.features @ skill + np.linspace(-0.5, 1.0, models)
    good = rng.random(logits.shape) < 1.0 / (1.0 + np.exp(-logits))
    blank.scores[:] = good
    blank.costs[:] = np.geomspace(1e-4, 1e-2, models, dtype=np.float32)
    return blank


def many_rows(base: Table, rows: int = KNN_ROWS, *, seed: int = 0) -> Table:
    """A table of so many rows around those of `base`: their vectors with noise, unit norm, and their outcomes."""
    rng = np.random.default_rng(seed)
    of = rng.integers(0, len(base), rows)
    wide = base.take(of)
    embedding = load_features().embedding_dimension
    part = wide.features[:, :embedding]
    part += 0.03 * rng.standard_normal(part.shape, dtype=np.float32)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
    ids = tuple(str(index) for index in range(rows))
    return Table(
        ids=ids,
        groups=rng.integers(0, 2**63, rows).astype(np.uint64),
        **{
            name: getattr(wide, name)
            for name in (
                "tasks", "models", "features", "fingerprint", "scores", "costs", "latencies",
                "output_tokens", "weights", "preferences", "prior", "digest", "texts",
            )
        },
    )  # fmt: skip


def artifact(kind: str, of: Table, folder: Path, *, seed: int = 0) -> Path:
    """Train one kind, and write what it became."""
    settings = {"measure": False, **SETTINGS.get(kind, {})}
    fitted = train(kind, of, seed=seed, settings=settings)
    arrays, state = fitted.estimator.state()
    draft = Draft(
        strategy=kind,
        features=of.fingerprint,
        models=fitted.estimator.models,
        arrays=arrays,
        settings={**fitted.settings, "features": "static", "estimator": state},
        metrics=fitted.metrics,
        data_sha256=of.digest,
    )
    write_artifact(folder / kind, draft)
    return folder / kind
