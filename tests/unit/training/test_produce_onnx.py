"""Training on MiniLM's features, with the package that carries the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routeiq.artifacts.artifact import open_artifact
from routeiq.simulator.sample import prompts, rows
from routeiq.strategies.logistic import LogisticStrategy
from routeiq.training.produce import Order, produce
from routeiq.types import LoadContext
from tests.support.routing import candidate, deployment, request

pytest.importorskip("onnxruntime")


def test_an_artifact_on_slow_features_has_a_twin_that_answers_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(list(prompts(40, 1)))))
    told: list[str] = []
    order = Order(
        strategy="logistic",
        files=(data,),
        out=tmp_path / "logistic",
        features="onnx",
        environment={"HOME": str(tmp_path)},
    )
    manifest = produce(order, told.append)
    assert any("static features" in line for line in told)
    assert manifest.features.startswith("onnx") or "minilm" in manifest.features.lower()
    names = open_artifact(tmp_path / "logistic").arrays
    assert {name.removeprefix("static/") for name in names if name.startswith("static/")} == {
        name for name in names if not name.startswith("static/")
    }
    strategy = LogisticStrategy()
    place = deployment("sim-small")
    strategy.load(LoadContext(deployments=(place,), models_path=str(tmp_path)))
    assert strategy.prepares
    (score,) = strategy.score(request("Tell me about rivers."), [candidate("", of=place)])
    assert 0.0 < score < 1.0
    assert "artifact" in strategy.explain(request("Tell me about rivers."))
    strategy.close()
