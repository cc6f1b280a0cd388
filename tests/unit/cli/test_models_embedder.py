from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from routeiq.cli.main import group
from routeiq.embeddings.features import load_features
from routeiq.embeddings.onnx_model import Search
from routeiq.exceptions import RouteIQError
from tests.support import tiny_bert


def test_the_folder_that_was_made_can_be_served(tmp_path: Path) -> None:
    model = tiny_bert.write_model(tmp_path / "model")
    arguments = ["models", "embedder", "--out", str(tmp_path / "out"), "--model", str(model)]
    run = CliRunner().invoke(group, [*arguments, "--int8"], catch_exceptions=False)
    assert run.exit_code == 0
    assert "model-int8.onnx, vocab.txt, embedder.json" in run.output
    assert "cosine 0.99" in run.output
    search = Search(path=tmp_path / "out")
    assert load_features("onnx", search=search).embedding_dimension == tiny_bert.HIDDEN
    run = CliRunner().invoke(group, arguments, catch_exceptions=False)
    assert "model-int8.onnx, model-fp32.onnx" in run.output


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    arguments = ["models", "embedder", "--out", str(tmp_path / "out"), "--model", str(tmp_path)]
    with pytest.raises(RouteIQError, match=str(tmp_path)):
        CliRunner().invoke(group, arguments, catch_exceptions=False)
