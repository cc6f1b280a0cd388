from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from routeiq.embeddings.onnx_graph import BLOCK, Shape, bert_graph, quantised
from routeiq.embeddings.static import EmbeddingError
from tests.support import tiny_bert

SHAPE = Shape.of(tiny_bert.CONFIG)
TEXTS = [[101, 5, 7, 7, 30, 102], [101, 9, 102], [101, 40, 41, 42, 43, 44, 45, 46, 102]]


def run(model: bytes, texts: list[list[int]]) -> npt.NDArray[np.float32]:
    ids = np.zeros((len(texts), max(map(len, texts))), np.int32)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return np.asarray(found, np.float32)


def test_the_graph_computes_bert_with_mean_pooling() -> None:
    weights = tiny_bert.weights()
    found = run(bert_graph(weights, SHAPE), TEXTS)
    expected = [tiny_bert.forward(weights, text) for text in TEXTS]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_makes_no_difference() -> None:
    model = bert_graph(tiny_bert.weights(), SHAPE)
    alone = np.concatenate([run(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(run(model, TEXTS), alone, atol=1e-6)


def test_int8_is_near_and_independent_of_the_batch() -> None:
    weights = tiny_bert.weights()
    model = bert_graph(weights, SHAPE, int8=True)
    found = run(model, TEXTS)
    expected = np.array([tiny_bert.forward(weights, text) for text in TEXTS])
    cosines = (found * expected).sum(1)
    assert (cosines > 0.998).all()
    assert (cosines < 0.9999999).any()
    alone = np.concatenate([run(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(found, alone, atol=1e-6)


def test_the_same_weights_give_the_same_bytes() -> None:
    weights = tiny_bert.weights()
    for int8 in (False, True):
        assert bert_graph(weights, SHAPE, int8=int8) == bert_graph(weights, SHAPE, int8=int8)


def test_int8_takes_a_quarter_of_the_room() -> None:
    weights = tiny_bert.weights(words=30_000)
    assert len(bert_graph(weights, SHAPE, int8=True)) < 0.45 * len(bert_graph(weights, SHAPE))


def test_quantisation_by_hand() -> None:
    weight = np.zeros((2, BLOCK + 1), np.float32)
    weight[0, :3] = [1.27, -1.27, 0.005]  # a step of 0.01: 127, -127 and 0.5, which rounds to even
    weight[1, BLOCK] = -2.54
    integers, steps = quantised(weight)
    assert integers.shape == (2, 2, BLOCK)
    assert integers[0, 0, :4].tolist() == [255, 1, 128, 128]
    assert integers[1, 1, :2].tolist() == [1, 128]
    assert steps.shape == (4,)
    np.testing.assert_allclose(steps[[0, 3]], [0.01, 0.02], rtol=1e-6)


def test_a_missing_weight_is_named() -> None:
    weights = tiny_bert.weights()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(EmbeddingError, match=r"'encoder\.layer\.1\.output\.dense\.bias'"):
        bert_graph(weights, SHAPE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "'roberta'"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'"),
        ({"num_attention_heads": None}, "lacks or misstates"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(EmbeddingError, match=message):
        Shape.of({**tiny_bert.CONFIG, **change})


def test_a_config_without_a_size_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="hidden_size"):
        Shape.of({"model_type": "bert", "hidden_act": "gelu"})
