"""Static embeddings: a table of one vector per word piece, distilled from all-MiniLM-L6-v2.

The table is int8 with one float32 factor per row, which holds both the quantisation step and the weight
of the piece (frequent pieces weigh less). The files are mapped, not read: workers share their pages.
How they are made is in scripts/distill_static.py, what they are worth in docs/adr/0009-features.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from routeiq.exceptions import RouteIQError

from .wordpiece import Ids, Vocabulary, WordPiece

Vector = npt.NDArray[np.float32]

DATA = Path(__file__).parent / "data" / "static"
TABLE, SCALES = "table", "scales"
BLOCK = 112
"""Pieces that are summed at a time: their float32 rows stay below the 128 kB from which the C library asks the
kernel for fresh pages on every call."""
VOCABULARY = ("words", "offsets", "slots", "reach")


class EmbeddingError(RouteIQError):
    """The files of an embedding are missing, damaged, or do not belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticTable:
    """The vectors (V, d) as int8, the factor of each row (V,), the vocabulary, and the digest of all files."""

    vectors: npt.NDArray[np.int8]
    scales: Vector
    vocabulary: Vocabulary
    digest: str

    @property
    def dimension(self) -> int:
        """Columns of the table."""
        return int(self.vectors.shape[1])

    def tokenizer(self) -> WordPiece:
        """A tokenizer with a cache of its own."""
        return WordPiece(self.vocabulary)

    def embed(self, ids: Ids) -> Vector:
        """The weighted sum of the pieces' vectors with unit norm, float32 (d,); zeros for no pieces."""
        total = np.zeros(self.dimension, np.float32)
        for start in range(0, len(ids), BLOCK):
            block = ids[start : start + BLOCK]
            total += self.scales.take(block) @ self.vectors.take(block, 0).astype(np.float32)
        norm = float(total @ total) ** 0.5
        return total / np.float32(norm) if norm > 0.0 else total


def open_table(folder: Path = DATA) -> StaticTable:
    """Map the files of a table.

    Raises:
        EmbeddingError: a file is missing, unreadable, or of another shape or type than it must be.
    """
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    digest = sha256()
    for name in (TABLE, SCALES, *VOCABULARY):
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise EmbeddingError(
                f"Cannot read {path}: {error}. It comes with the package: install routeiq-router again."
            ) from error
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)  # the mapped pages themselves: no copy
        arrays[name] = array
    return _table(folder, arrays, digest.hexdigest())


def _table(folder: Path, arrays: dict[str, npt.NDArray[np.generic]], digest: str) -> StaticTable:
    vectors, scales, offsets = arrays[TABLE], arrays[SCALES], arrays["offsets"]
    rows = len(vectors)
    expected = {TABLE: "int8", SCALES: "float32", "words": "uint8", "offsets": "uint32"}
    expected |= {"slots": "uint16", "reach": "uint8"}
    wrong = [n for n, kind in expected.items() if arrays[n].dtype.name != kind]
    if vectors.ndim != 2 or scales.shape != (rows,) or offsets.shape != (rows + 1,):
        wrong.append(f"shapes {vectors.shape}, {scales.shape}, {offsets.shape}")
    if wrong:
        raise EmbeddingError(
            f"The files in {folder} do not belong together ({', '.join(wrong)}). "
            "Make them again with scripts/distill_static.py, or install routeiq-router again."
        )
    views = {name: array.view(np.ndarray) for name, array in arrays.items()}
    return StaticTable(
        vectors=views[TABLE],
        scales=views[SCALES],
        vocabulary=Vocabulary(**{name: views[name] for name in VOCABULARY}),
        digest=digest,
    )
