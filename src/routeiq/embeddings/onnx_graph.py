"""A BERT encoder with mean pooling and unit norm as one ONNX graph, written from its weights.

Architecture: Devlin et al., 2019, https://arxiv.org/abs/1810.04805 (post-norm encoder, exact GELU); pooling as
in Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084 (mean over the tokens, then L2 norm). The graph
uses ONNX Runtime's fused operators (`MultiHeadAttention`, `SkipLayerNormalization`, `BiasGelu`) instead of
leaving it to an optimiser to find them, so it starts quickly and is the same for every version.

`int8` stores each matrix as 8-bit integers with a step per output and block of 64 inputs (`MatMulNBits`), and
takes the activations as 8-bit integers with a step per row and block. `quantize_dynamic` has one step for all
activations of a batch: less precise, and a text's vector then depends on which texts it is computed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .static import EmbeddingError

Weights = Mapping[str, npt.NDArray[np.float32]]
Array = npt.NDArray[Any]

RECIPE = 1
"""Raised whenever the same weights give another graph: it is part of the features' fingerprint."""
OPSET, IR = 17, 8
"""What ONNX Runtime has accepted since 1.13; helpers would write the newest, which older ones refuse."""
FUSED = "com.microsoft"
BLOCK = 64
"""Inputs that share a quantisation step."""
INT8_ACTIVATIONS = 4
"""`accuracy_level` of `MatMulNBits`: multiply 8-bit integers, accumulate in 32 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers of a BERT's config.json that the graph depends on."""

    hidden: int
    layers: int
    heads: int
    epsilon: float = 1e-12

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """The shape of a config.json.

        Raises:
            EmbeddingError: it is not a BERT that this graph computes.
        """
        kind = (config.get("model_type"), config.get("hidden_act"))
        position = config.get("position_embedding_type", "absolute")
        if kind != ("bert", "gelu") or position != "absolute":
            raise EmbeddingError(
                f"config.json describes {kind[0]!r} with {kind[1]!r} and {position!r} positions; "
                "only 'bert' with 'gelu' and 'absolute' positions can be used."
            )
        try:
            return cls(
                hidden=int(config["hidden_size"]),
                layers=int(config["num_hidden_layers"]),
                heads=int(config["num_attention_heads"]),
                epsilon=float(config.get("layer_norm_eps", 1e-12)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EmbeddingError(f"config.json lacks or misstates {error}.") from error


def bert_graph(weights: Weights, shape: Shape, *, int8: bool = False) -> bytes:
    """The model file: `input_ids`, `attention_mask` int32 (b, t) to `embedding` float32 (b, hidden).

    Args:
        weights: arrays under the names of Hugging Face's `BertModel`, float32.
        shape: the numbers that they belong to.
        int8: whether matrices and embeddings become 8-bit integers.

    Raises:
        EmbeddingError: an array is missing or has another shape, or the `onnx` extra is not installed.
    """
    graph = _Graph(weights, shape, int8=int8)
    row = graph.embeddings()
    for layer in range(shape.layers):
        row = graph.layer(f"encoder.layer.{layer}", row)
    graph.pooled(row)
    return graph.model()


class _Graph:
    """Collects nodes and constants. Names of values are those of the constants or `<op>.<number>`."""

    def __init__(self, weights: Weights, shape: Shape, *, int8: bool) -> None:
        self._onnx = _onnx()
        self._weights = weights
        self._shape = shape
        self._int8 = int8
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def embeddings(self) -> str:
        """Word + position + segment 0, normalised."""
        words = self._table("embeddings.word_embeddings.weight")
        positions = self._weight("embeddings.position_embeddings.weight")
        segment = self._weight("embeddings.token_type_embeddings.weight")[0]
        table = self.constant("positions", positions + segment)
        size = self.add("Shape", "input_ids", start=1, end=2)
        start, axis = self.constant("zero", _int64(0)), self.constant("first", _int64(0))
        place = self.add("Slice", table, start, size, axis)
        return self._normalised(self.add("Add", words, place), "embeddings.LayerNorm")

    def layer(self, name: str, row: str) -> str:
        """Attention and the two-layer perceptron, each with its residual and normalisation."""
        parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weight(f"{part}.weight") for part in parts])
        bias = np.concatenate([self._weight(f"{part}.bias") for part in parts])
        packed = self._product(f"{name}.qkv", row, weight)
        query, key, value = self.split(packed, 3)
        seen = self.add(
            "MultiHeadAttention",
            query,
            key,
            value,
            self.constant(f"{name}.qkv.bias", bias),
            "attention_mask",
            domain=FUSED,
            num_heads=self._shape.heads,
        )
        row = self._residual(f"{name}.attention.output", seen, row)
        first = f"{name}.intermediate.dense"
        wide = self._product(first, row, self._weight(f"{first}.weight"))
        bend = self.constant(f"{first}.bias", self._weight(f"{first}.bias"))
        return self._residual(f"{name}.output", self.add("BiasGelu", wide, bend, domain=FUSED), row)

    def pooled(self, row: str) -> None:
        """The mean over the tokens that the mask shows, with unit norm; padding weighs nothing."""
        real = self.add("Cast", "attention_mask", to=self._onnx.TensorProto.FLOAT)
        weight = self.add("Unsqueeze", real, self.constant("last", _int64(1)))
        total = self.add(
            "MatMul", weight, row
        )  # the sum, (b, 1, hidden); its length is divided out
        flat = self.add("Squeeze", total, self.constant("middle", _int64(1)))
        self.add("LpNormalization", flat, output="embedding", axis=-1, p=2)

    def model(self) -> bytes:
        """The finished file, the same bytes for the same weights."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        ids = [
            helper.make_tensor_value_info(name, kinds.INT32, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        out = helper.make_tensor_value_info("embedding", kinds.FLOAT, ["batch", self._shape.hidden])
        graph = helper.make_graph(self._nodes, "bert", ids, [out], self._constants)
        sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=sets, producer_name="routeiq")
        model.ir_version = IR
        written: bytes = model.SerializeToString(deterministic=True)
        return written

    def constant(self, name: str, array: Array) -> str:
        """A constant of the file."""
        tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._constants.append(tensor)
        return name

    def add(
        self, op: str, *inputs: str, output: str = "", domain: str = "", **settings: Any
    ) -> str:
        """A node with one output, whose name is returned."""
        output = output or f"{op}.{len(self._nodes)}"
        self._nodes.append(
            self._onnx.helper.make_node(op, inputs, [output], domain=domain, **settings)
        )
        return output

    def split(self, value: str, parts: int) -> list[str]:
        """Equal parts of the last axis."""
        outputs = [f"Split.{len(self._nodes)}.{part}" for part in range(parts)]
        self._nodes.append(self._onnx.helper.make_node("Split", [value], outputs, axis=-1))
        return outputs

    def _residual(self, name: str, value: str, row: str) -> str:
        """LayerNorm(row + value @ dense + bias)."""
        dense = self._product(f"{name}.dense", value, self._weight(f"{name}.dense.weight"))
        return self.add(
            "SkipLayerNormalization",
            dense,
            row,
            *self._norm(f"{name}.LayerNorm"),
            self.constant(f"{name}.dense.bias", self._weight(f"{name}.dense.bias")),
            domain=FUSED,
            epsilon=self._shape.epsilon,
        )

    def _normalised(self, value: str, name: str) -> str:
        scale, bias = self._norm(name)
        return self.add(
            "LayerNormalization", value, scale, bias, axis=-1, epsilon=self._shape.epsilon
        )

    def _norm(self, name: str) -> tuple[str, str]:
        scale, bias = (self._weight(f"{name}.{part}") for part in ("weight", "bias"))
        return self.constant(f"{name}.weight", scale), self.constant(f"{name}.bias", bias)

    def _product(self, name: str, value: str, weight: npt.NDArray[np.float32]) -> str:
        """`value` times the transpose of `weight` (outputs, inputs)."""
        if not self._int8:
            return self.add("MatMul", value, self.constant(f"{name}.weight", weight.T))
        integers, steps = quantised(weight)
        return self.add(
            "MatMulNBits",
            value,
            self.constant(f"{name}.weight", integers),
            self.constant(f"{name}.steps", steps),
            domain=FUSED,
            N=weight.shape[0],
            K=weight.shape[1],
            bits=8,
            block_size=BLOCK,
            accuracy_level=INT8_ACTIVATIONS,
        )

    def _table(self, name: str) -> str:
        """The rows of a table for the ids; as int8, one step a row."""
        rows = self._weight(name)
        if not self._int8:
            return self.add("Gather", self.constant(name, rows), "input_ids")
        steps = np.maximum(np.abs(rows).max(1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        integers = np.rint(rows / steps).astype(np.int8)
        found = self.add("Gather", self.constant(name, integers), "input_ids")
        exact = self.add("Cast", found, to=self._onnx.TensorProto.FLOAT)
        step = self.add("Gather", self.constant(f"{name}.steps", steps), "input_ids")
        return self.add("Mul", exact, step)

    def _weight(self, name: str) -> npt.NDArray[np.float32]:
        found = self._weights.get(name)
        if found is None:
            raise EmbeddingError(
                f"The weights lack {name!r}: they are not those of a BERT encoder."
            )
        return np.asarray(found, np.float32)


def quantised(
    weight: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A matrix (n, k) for `MatMulNBits`: integers (n, blocks, BLOCK) around 128, steps (n * blocks,).

    The last block is filled with zeros where `BLOCK` does not divide k.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight
    cut = padded.reshape(outputs, blocks, BLOCK)
    steps = np.maximum(np.abs(cut).max(-1) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    integers = np.rint(cut / steps[..., None]) + 128
    return integers.astype(np.uint8), steps.ravel()


def _int64(value: int) -> npt.NDArray[np.int64]:
    return np.array([value], np.int64)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise EmbeddingError(
            "Building the model file needs onnx: pip install 'routeiq-router[onnx]'."
        ) from error
    return onnx
