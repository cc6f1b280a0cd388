"""A BERT with random weights and eight hidden units, as files, and what NumPy makes of it."""

from __future__ import annotations

import json
from math import erf, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

HIDDEN, LAYERS, HEADS, WIDE = 8, 2, 2, 16
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "layer_norm_eps": 1e-12,
}
LETTERS = "abcdefghijklmnopqrst"
WORDS = (
    "[PAD]",
    *(f"[unused{i}]" for i in range(99)),
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
)


def weights(seed: int = 0, *, words: int = len(WORDS), positions: int = 256) -> dict[str, Matrix]:
    """Arrays under the names of Hugging Face's `BertModel`."""
    draw = np.random.default_rng(seed)

    def array(*shape: int, scale: float = 0.5, mean: float = 0.0) -> Matrix:
        return (mean + scale * draw.standard_normal(shape)).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": array(words, HIDDEN),
        "embeddings.position_embeddings.weight": array(positions, HIDDEN),
        "embeddings.token_type_embeddings.weight": array(2, HIDDEN),
    }

    def dense(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"] = array(outputs, inputs)
        found[f"{name}.bias"] = array(outputs)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = array(HIDDEN, scale=0.2, mean=1.0)
        found[f"{name}.bias"] = array(HIDDEN)

    norm("embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", HIDDEN, HIDDEN)
        dense(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", WIDE, HIDDEN)
        dense(f"{layer}.output.dense", HIDDEN, WIDE)
        norm(f"{layer}.output.LayerNorm")
    return found


def forward(arrays: dict[str, Matrix], ids: list[int]) -> Matrix:
    """The embedding of one text in float64, term by term as in the papers: no batch, no mask, no fusion."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}

    def dense(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0])
    size = HIDDEN // HEADS
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        q, k, v = (dense(f"{layer}.attention.self.{p}", x) for p in ("query", "key", "value"))
        seen = []
        for head in (slice(h * size, (h + 1) * size) for h in range(HEADS)):
            logits = np.exp(q[:, head] @ k[:, head].T / sqrt(size))
            seen.append(logits / logits.sum(-1, keepdims=True) @ v[:, head])
        out = dense(f"{layer}.attention.output.dense", np.concatenate(seen, -1))
        x = norm(f"{layer}.attention.output.LayerNorm", x + out)
        wide = dense(f"{layer}.intermediate.dense", x)
        bent = wide * 0.5 * (1 + np.vectorize(erf)(wide / sqrt(2)))
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", bent))
    mean = x.mean(0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def safetensors(arrays: dict[str, Matrix], kind: str = "F32") -> bytes:
    """The arrays as a file, with the marks that PyTorch's exporter leaves."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytes(8)
    header["embeddings.position_ids"] = {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}
    for name, array in arrays.items():
        raw = array.astype({"F32": "<f4", "F16": "<f2"}[kind]).tobytes()
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": span}
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_model(folder: Path, seed: int = 0) -> Path:
    """A folder as the hub has it: weights, config, vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors(weights(seed)))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder
