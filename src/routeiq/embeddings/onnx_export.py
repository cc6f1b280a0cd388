"""Makes a folder with MiniLM's ONNX files, and measures what int8 costs in precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .onnx import Embedder
from .onnx_model import (
    CARD,
    PRECISIONS,
    Fetch,
    Precision,
    Search,
    find,
    loaded,
    made,
    name_of,
    write,
)
from .static import EmbeddingError

TEXTS = (
    "Hi",
    "What is the capital of Australia?",
    "Write a haiku about the sea in autumn.",
    "Prove that the square root of two is irrational, step by step.",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\nWhy is this slow?",
    "Summarise the following meeting notes as three bullet points: budget, hiring, launch date.",
    "Was ist der Unterschied zwischen Mitose und Meiose?",
    "为什么天空是蓝色的?",
    "Find x: \\frac{2x}{3} = 14.\nA. 21\nB. 7\nC. 3\nD. 42",
    "Translate 'good morning' into French, Spanish and Japanese, as JSON.",
    "My order 48213 has not arrived. " * 12,
    "The quick brown fox jumps over the lazy dog, " * 24,
)
"""What is measured on: short and long, code, mathematics, several languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The files that were written, where the weights are from, and the cosine of int8 with fp32 on `texts`."""

    files: tuple[str, ...]
    source: Path
    texts: int
    mean: float
    least: float


def export(
    out: Path,
    search: Search,
    *,
    precisions: Sequence[Precision] = PRECISIONS,
    fetch: Fetch | None = None,
) -> Exported:
    """Write the files of these precisions and `embedder.json`, which holds their SHA-256.

    Args:
        out: their folder; made where it does not exist.
        search: where to look for the weights.
        precisions: of `int8` and `fp32`.
        fetch: opens a URL for reading; by default over HTTPS.

    Raises:
        EmbeddingError: there are no weights, they cannot be used, or the folder cannot be written.
    """
    source = find(search, fetch=fetch)
    if (source / CARD).is_file():
        raise EmbeddingError(f"{source} holds ONNX files already: use that folder, or copy it.")
    files = made(source, PRECISIONS)
    fp32, int8 = (vectors(Embedder(loaded(files, p, source))) for p in ("fp32", "int8"))
    cosines = (fp32 * int8).sum(1)
    unwanted = {name_of(p) for p in PRECISIONS if p not in precisions}
    kept = {name: content for name, content in files.items() if name not in unwanted}
    try:
        write(out, kept)
    except OSError as error:
        raise EmbeddingError(f"Cannot write to {out}: {error}.") from error
    return Exported(
        files=tuple(kept),
        source=source,
        texts=len(TEXTS),
        mean=float(cosines.mean()),
        least=float(cosines.min()),
    )


def vectors(embedder: Embedder) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The embeddings of `TEXTS`, (n, d)."""
    tokens = embedder.tokenizer()
    return np.stack(embedder.batch([tokens.encode(text) for text in TEXTS]))
