from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routeiq.embeddings import onnx as module
from routeiq.embeddings.features import GIST_WEIGHT, load_features
from routeiq.embeddings.lexical import DIMENSION
from routeiq.embeddings.onnx import BATCH, LONGEST, OnnxFeatures, grouped, load_onnx, marked
from routeiq.embeddings.onnx_export import TEXTS, export
from routeiq.embeddings.onnx_model import Search, open_model
from routeiq.embeddings.static import EmbeddingError
from routeiq.types import RoutingRequest
from tests.support import tiny_bert

REQUEST = RoutingRequest(id="r", operation="chat", model="m", text="abc de f?")
SIZE = tiny_bert.HIDDEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("embedder")
    export(base / "out", Search(path=tiny_bert.write_model(base / "model")))
    return base / "out"


@pytest.fixture
def features(folder: Path) -> OnnxFeatures:
    return load_onnx("fp32", search=Search(path=folder))


def test_a_vector_is_the_embedding_and_the_lexical_features(features: OnnxFeatures) -> None:
    (row,) = features.many([REQUEST])
    tokens = [tiny_bert.WORDS.index(w) for w in ("[CLS]", "a", "##b", "##c", "d", "##e", "f")]
    expected = tiny_bert.forward(tiny_bert.weights(), [*tokens, 100, 102])  # "?" is unknown
    np.testing.assert_allclose(row[:SIZE], expected, atol=1e-5)
    static = load_features().one(REQUEST)
    assert row[SIZE:].tolist() == static[-DIMENSION:].tolist()
    assert features.dimension == len(row) == len(features.names) == SIZE + DIMENSION
    assert features.embedding_dimension == SIZE


@pytest.mark.anyio
async def test_one_has_what_warm_computed(features: OnnxFeatures) -> None:
    assert features.off_loop
    assert features.one(REQUEST) is None
    await features.warm(REQUEST)
    vector = features.one(replace(REQUEST, id="other"))
    np.testing.assert_allclose(vector, features.many([REQUEST])[0], atol=1e-6)
    await features.warm(REQUEST)
    assert features.batcher.batches == 1
    assert features.overloads == 0


@pytest.mark.anyio
async def test_the_system_prompt_colours_and_is_embedded_once(features: OnnxFeatures) -> None:
    asked = [replace(REQUEST, text=text, system="abba.") for text in ("a", "b")]
    for request in asked:
        await features.warm(request)
    assert features.batcher.items == 3
    vectors = np.array([features.one(request) for request in asked])
    np.testing.assert_allclose(vectors, features.many(asked), atol=1e-6)
    question, system = features.many([replace(REQUEST, text="a"), replace(REQUEST, text="abba.")])
    mixed = question[:SIZE] + GIST_WEIGHT * system[:SIZE]
    np.testing.assert_allclose(vectors[0][:SIZE], mixed / np.linalg.norm(mixed), atol=1e-5)


@pytest.mark.anyio
async def test_overload_leaves_no_vector_and_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 0)
    features = load_onnx(search=Search(path=folder))
    await features.warm(REQUEST)
    assert features.one(REQUEST) is None
    assert features.overloads == 1
    assert features.batcher.batches == 0


@pytest.mark.anyio
async def test_the_same_prompt_at_the_same_time_is_computed_once(features: OnnxFeatures) -> None:
    await asyncio.gather(*(features.warm(REQUEST) for _ in range(50)))
    assert features.one(REQUEST) is not None
    assert features.batcher.items == 1


@pytest.mark.anyio
async def test_closed_features_have_no_vector(features: OnnxFeatures) -> None:
    features.close()
    await features.warm(REQUEST)
    assert features.one(REQUEST) is None


def test_many_keeps_the_order_whatever_the_lengths(features: OnnxFeatures) -> None:
    requests = [
        replace(REQUEST, text="a " * (n * 7 % 40), system="st" * (n % 3), turns=1 + n)
        for n in range(60)
    ]
    rows = features.many(requests)
    alone = np.concatenate([features.many([request]) for request in requests])
    np.testing.assert_allclose(rows, alone, atol=1e-5)
    assert features.many([]).shape == (0, features.dimension)


def test_int8_is_near_fp32(folder: Path, features: OnnxFeatures) -> None:
    int8 = load_features("onnx", search=Search(path=folder))
    requests = [replace(REQUEST, text=text) for text in ("a b c", "dd ee", "t")]
    rows, exact = int8.many(requests), features.many(requests)
    assert (np.sum(rows[:, :SIZE] * exact[:, :SIZE], axis=1) > 0.995).all()
    assert rows[:, SIZE:].tolist() == exact[:, SIZE:].tolist()


def test_the_fingerprint_says_what_it_is_of(folder: Path, tmp_path: Path) -> None:
    search = Search(path=folder)
    prints = {
        name: load_features(name, search=search).fingerprint for name in ("onnx", "onnx-fp32")
    }
    assert prints["onnx"].startswith(f"onnx-int8-{SIZE}+{DIMENSION}:")
    assert prints["onnx-fp32"].startswith(f"onnx-fp32-{SIZE}+{DIMENSION}:")
    assert load_features("onnx-int8", search=search).fingerprint == prints["onnx"]
    other = Search(path=tiny_bert.write_model(tmp_path, seed=1))
    assert load_features("onnx", search=other).fingerprint != prints["onnx"]


def test_the_fingerprint_changes_with_the_length(
    features: OnnxFeatures, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 128)
    assert load_onnx("fp32", search=Search(path=folder)).fingerprint != features.fingerprint


def test_of_a_long_text_both_ends_count() -> None:
    tokens = marked(np.arange(1000, 2000, dtype=np.uint16))
    assert len(tokens) == LONGEST
    assert tokens[:3].tolist() == [101, 1000, 1001]
    assert tokens[127:129].tolist() == [1126, 1873]
    assert tokens[-2:].tolist() == [1999, 102]
    assert marked(np.array([], np.uint16)).tolist() == [101, 102]


def test_batches_have_little_padding() -> None:
    lengths = [200, 8, 9, 8, 190, 100]
    assert list(grouped(lengths)) == [[1, 3, 2], [5], [4, 0]]
    assert [len(group) for group in grouped([5] * 20)] == [BATCH, BATCH, 4]
    assert list(grouped([])) == []


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    model = tiny_bert.write_model(tmp_path)
    words = list(tiny_bert.WORDS)
    words[101], words[102] = words[102], words[101]
    (model / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(EmbeddingError, match=r"\[CLS\], \[SEP\] not where expected"):
        load_onnx(search=Search(path=model))


def test_a_file_that_is_no_model_is_an_error_of_ours(folder: Path) -> None:
    model = replace(open_model(Search(path=folder)), content=b"no model")
    with pytest.raises(EmbeddingError, match=r"cannot open .* as onnx-int8"):
        module.Embedder(model)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(EmbeddingError, match=r"pip install 'routeiq-router\[onnx\]'"):
        load_onnx(search=Search(path=tiny_bert.write_model(tmp_path)))


def test_a_ready_folder_is_served_without_onnx(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert load_onnx(search=Search(path=folder)).many([REQUEST]).shape == (1, SIZE + DIMENSION)


def test_export_says_what_it_made_and_measured(tmp_path: Path) -> None:
    model = tiny_bert.write_model(tmp_path / "model")
    done = export(tmp_path / "out", Search(path=model), precisions=("int8",))
    assert done.files == ("model-int8.onnx", "vocab.txt", "embedder.json")
    assert sorted(done.files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (done.source, done.texts) == (model, len(TEXTS))
    assert 0.99 < done.least <= done.mean < 1.0
    with pytest.raises(EmbeddingError, match="ONNX files already"):
        export(tmp_path / "again", Search(path=tmp_path / "out"))


def test_the_package_s_model_knows_what_is_similar() -> None:
    features = load_features("onnx")
    texts = ("a cat sits on a mat", "a kitten is on a rug", "quarterly revenue report")
    rows = features.many([replace(REQUEST, text=text) for text in texts])
    cat, kitten, report = rows[:, : features.embedding_dimension]
    assert features.embedding_dimension == 384
    assert float(cat @ kitten) == pytest.approx(0.626, abs=0.02)  # sentence-transformers: 0.6261
    assert float(cat @ report) < 0.1
