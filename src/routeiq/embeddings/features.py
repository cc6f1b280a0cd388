"""The vector that learned strategies see: what a request means, and what can be read off it.

`[embedding of the question, unit norm | lexical features]`, float32. The rules about which text counts are
in `text.py`. Training and serving call the same code; the fingerprint proves that they called the same version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from routeiq.types import Capability, RoutingRequest

from .cache import ENTRIES, FeatureCache, content_key
from .lexical import DIMENSION as LEXICAL_DIMENSION
from .lexical import NAMES, lexical
from .static import DATA, EmbeddingError, open_table
from .text import edges, gist, question
from .wordpiece import Ids, WordPiece

if TYPE_CHECKING:
    from .onnx_model import Precision, Search

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]

GIST_WEIGHT = 0.25
"""Length of the system prompt's part beside a question of length 1: it colours, it does not decide."""
GISTS = 256
"""System prompts whose embedding is remembered: an application sends the same one all the time."""


class Table(Protocol):
    """Makes embeddings of word pieces. `digest` changes whenever they do."""

    @property
    def dimension(self) -> int:
        """Numbers in an embedding."""

    @property
    def digest(self) -> str:
        """Of everything that an embedding depends on."""

    def tokenizer(self) -> WordPiece:
        """A tokenizer with a cache of its own."""

    def embed(self, ids: Ids) -> Vector:
        """The embedding, float32 (d,), unit norm."""


class Features:
    """Requests to vectors. One per worker is enough: calls share nothing but caches."""

    off_loop: bool = False
    """Whether a vector takes so long that `warm` must be awaited before `one` has it."""

    def __init__(self, table: Table, *, kind: str = "static", cache: int = ENTRIES) -> None:
        self._table = table
        self._tokens = table.tokenizer()
        self._cache = FeatureCache(cache)
        self._gists: dict[str, Vector] = {}
        self.embedding_dimension = table.dimension
        self.dimension = table.dimension + LEXICAL_DIMENSION
        self.fingerprint = f"{kind}-{table.dimension}+{LEXICAL_DIMENSION}:{self._probe()}"

    @property
    def names(self) -> tuple[str, ...]:
        """What each column means, for explanations: `embedding 0`, ..., then the lexical features."""
        return (*(f"embedding {i}" for i in range(self.embedding_dimension)), *NAMES)

    @property
    def cache(self) -> FeatureCache:
        """The vectors of the prompts seen lately, with counts of hits and misses."""
        return self._cache

    @property
    def overloads(self) -> int:
        """How many texts `warm` had no time for."""
        return 0

    async def warm(self, request: RoutingRequest) -> None:
        """Make `one` ready for a request; nothing to do where features are fast enough for the event loop."""

    def one(self, request: RoutingRequest) -> Vector:
        """The features of a request, float32 (d,), read-only: from the cache where the content is known."""
        key = content_key(request)
        vector = self._cache.get(key)
        if vector is None:
            vector = np.empty(self.dimension, np.float32)
            self._fill(request, vector)
            self._cache.put(key, vector)
        return vector

    def many(self, requests: Sequence[RoutingRequest]) -> Matrix:
        """The features of requests, float32 (n, d), past the cache."""
        rows = np.empty((len(requests), self.dimension), np.float32)
        for request, row in zip(requests, rows, strict=True):
            self._fill(request, row)
        return rows

    def close(self) -> None:
        """Let go of threads, where there are any."""

    def _fill(self, request: RoutingRequest, row: Vector) -> None:
        asked, words = self._asked(request)
        vector = self._table.embed(self._tokens.ids(words))
        if request.system:
            vector = coloured(vector, self._gist(request.system))
        row[: self.embedding_dimension] = vector
        row[self.embedding_dimension :] = lexical(asked, words, request)

    def _asked(self, request: RoutingRequest) -> tuple[str, list[bytes]]:
        """The question of a request, and the words of it that are embedded."""
        asked = question(request.text)
        return asked, self._tokens.split(edges(asked))

    def _gist(self, system: str) -> Vector:
        start = gist(system)
        vector = self._gists.get(start)
        if vector is None:
            if len(self._gists) >= GISTS:
                self._gists.clear()
            vector = self._gists[start] = self._table.embed(self._tokens.encode(start))
        return vector

    def _probe(self) -> str:
        """A digest of the table and of what this code makes of the probes: exact ids, rounded numbers."""
        digest = sha256(self._table.digest.encode())
        digest.update(f"{GIST_WEIGHT} {NAMES}".encode())
        for request in _PROBES:
            asked, words = self._asked(request)
            digest.update(self._tokens.ids(words).tobytes())
            digest.update(gist(request.system).encode())
            digest.update(" ".join(f"{x:.4f}" for x in lexical(asked, words, request)).encode())
        return digest.hexdigest()[:16]


def load_features(
    name: str = "static",
    *,
    folder: Path = DATA,
    cache: int | None = None,
    search: Search | None = None,
) -> Features:
    """The features by name; only `static` has no need of an extra.

    Args:
        name: `static`, or `onnx` (which is `onnx-int8`), `onnx-int8`, `onnx-fp32`.
        folder: where the static table's files are.
        cache: how many vectors `Features.one` keeps; 0 for none.
        search: where to look for the model of the `onnx` features.

    Raises:
        EmbeddingError: another name, or files that cannot be used.
    """
    if name == "static":
        return Features(open_table(folder), cache=ENTRIES if cache is None else cache)
    if name not in ("onnx", "onnx-int8", "onnx-fp32"):
        raise EmbeddingError(
            f"There are no features named {name!r}. Use 'static', 'onnx' (int8) or 'onnx-fp32'."
        )
    from .onnx import ENTRIES as ONNX_ENTRIES
    from .onnx import load_onnx

    precision: Precision = "fp32" if name == "onnx-fp32" else "int8"
    return load_onnx(precision, search=search, cache=ONNX_ENTRIES if cache is None else cache)


def open_features(name: str, path: Path | None, environment: Mapping[str, str]) -> Features:
    """The features by name, with MiniLM from `path` or from where the environment's variables point.

    Raises:
        EmbeddingError: no such features, or the model is nowhere.
    """
    if name == "static":
        return load_features()
    from .onnx_model import Search

    return load_features(name, search=Search(path=path, environment=environment))


def coloured(vector: Vector, system: Vector) -> Vector:
    """A question's embedding with some of its system prompt's, unit norm."""
    return _unit(vector + GIST_WEIGHT * system)


def _unit(vector: Vector) -> Vector:
    norm = float(vector @ vector) ** 0.5
    return vector / np.float32(norm) if norm > 0.0 else vector


def _probe(text: str, system: str = "", turns: int = 1, *needs: Capability) -> RoutingRequest:
    return RoutingRequest(
        id="probe",
        operation="chat",
        model="probe",
        text=text,
        system=system,
        turns=turns,
        needs=frozenset(needs),
    )


_PROBES = (
    _probe("Why is the sky blue? Explain it in three sentences, as a list."),
    _probe("Find x: \\frac{2x}{3} = 14, x > 0.\nA. 21\nB. 7\nC. 3\nD. 42\nAnswer:"),
    _probe(
        "```python\ndef f(x):\n    return x == 1\n```\nWhat's wrong?", "You are terse. " * 30, 5
    ),
    _probe("Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA: 4\n\nQ: Prove that unhelpfulness is countable.\nA:"),
    _probe("为什么天空是蓝色的?请用表格解释。", "", 1, Capability.JSON_SCHEMA, Capability.TOOLS),
    _probe(
        "Почему небо голубое? Ça dépend de la diffusion… ﬁ Ⅷ \U0001f600", "", 2, Capability.VISION
    ),
    _probe("".join(f"{i} sheep, " for i in range(900))),
    _probe("a quick brown fox\n" * 40 + "".join(map(chr, range(32, 127)))),
    _probe(""),
)
