from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from routeiq.embeddings.static import BLOCK, DATA, EmbeddingError, StaticTable, open_table
from routeiq.embeddings.wordpiece import Vocabulary

MEGABYTE = 1_000_000


def table(vectors: list[list[int]], scales: list[float]) -> StaticTable:
    return StaticTable(
        vectors=np.array(vectors, np.int8),
        scales=np.array(scales, np.float32),
        vocabulary=Vocabulary.build(["a", "b", "c"]),
        digest="",
    )


def test_an_embedding_is_the_weighted_sum_with_unit_norm() -> None:
    small = table([[4, 0], [0, 6], [1, 1]], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(small.embed(np.array([0, 0, 1], np.uint16)), [0.8, 0.6])
    assert small.embed(np.array([1], np.uint16)).dtype == np.float32


def test_nothing_known_is_the_zero_vector() -> None:
    small = table([[4, 0], [0, 6], [1, 1]], [0.5, 0.5, 0.0])
    assert small.embed(np.array([], np.uint16)).tolist() == [0.0, 0.0]
    assert small.embed(np.array([2, 2], np.uint16)).tolist() == [0.0, 0.0]


def test_blocks_make_no_difference() -> None:
    shipped = open_table()
    ids = np.random.default_rng(0).integers(104, 30_522, 3 * BLOCK + 5).astype(np.uint16)
    whole = shipped.scales[ids] @ shipped.vectors[ids].astype(np.float32)
    np.testing.assert_allclose(shipped.embed(ids), whole / np.linalg.norm(whole), atol=1e-5)


def test_the_shipped_table_is_small_mapped_and_read_only() -> None:
    shipped = open_table()
    assert shipped.vectors.shape == (30_522, 256)
    assert sum(path.stat().st_size for path in DATA.iterdir()) <= 10 * MEGABYTE
    assert isinstance(shipped.vectors.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shipped.vectors[0, 0] = 1


def test_marks_and_unknown_words_weigh_nothing() -> None:
    assert not open_table().scales[:104].any()


@pytest.mark.parametrize(
    ("near", "nearer", "far"),
    [
        (
            "How do I sort a list in Python?",
            "python code to order an array",
            "What causes inflation?",
        ),
        (
            "Integrate x squared from 0 to 1",
            "compute the definite integral of a polynomial",
            "Who wrote Hamlet?",
        ),
        (
            "Symptoms of diabetes",
            "signs that a patient has high blood sugar",
            "the French revolution",
        ),
    ],
)
def test_texts_that_mean_the_same_are_nearer(near: str, nearer: str, far: str) -> None:
    shipped = open_table()
    tokens = shipped.tokenizer()
    a, b, c = (shipped.embed(tokens.encode(text)) for text in (near, nearer, far))
    assert a @ b > a @ c + 0.1


def copied(folder: Path) -> Path:
    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    return folder


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (copied(tmp_path) / "scales.npy").unlink()
    with pytest.raises(EmbeddingError, match=r"scales\.npy.*install routeiq-router again"):
        open_table(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = copied(tmp_path) / "table.npy"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EmbeddingError, match=r"table\.npy"):
        open_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("scales", np.zeros(3, np.float32)),
        ("scales", np.zeros(30_522, np.float64)),
        ("offsets", np.zeros(9, np.uint32)),
        ("slots", np.zeros(65536, np.int64)),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, name: str, array: np.ndarray[tuple[int], np.dtype[np.generic]]
) -> None:
    np.save(copied(tmp_path) / f"{name}.npy", array)
    with pytest.raises(EmbeddingError, match="do not belong together"):
        open_table(tmp_path)


def test_the_digest_is_of_the_files(tmp_path: Path) -> None:
    copied(tmp_path)
    assert open_table(tmp_path).digest == open_table().digest
    scales = np.load(tmp_path / "scales.npy")
    scales[2000] *= 2
    np.save(tmp_path / "scales.npy", scales)
    assert open_table(tmp_path).digest != open_table().digest
