"""Features with all-MiniLM-L6-v2 on ONNX Runtime: `[384 numbers of the embedding, unit norm | lexical features]`.

A vector takes milliseconds, so it is computed in a thread: `warm` is awaited before the decision and `one` only
looks up what it left. When more prompts wait than the queue takes, `warm` returns at once, `one` has nothing, and
the caller scores with something quicker; `overloads` counts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from routeiq.types import RoutingRequest

from .batching import MicroBatcher
from .cache import content_key
from .features import GISTS, Features, Matrix, Vector, coloured
from .lexical import lexical
from .onnx_model import ModelFile, Precision, Search, open_model
from .static import EmbeddingError
from .text import gist
from .wordpiece import Ids, Vocabulary, WordPiece

LONGEST = 256
"""Tokens of a text, [CLS] and [SEP] included, as the model was trained. Of a longer one both ends count."""
ENTRIES = 2048
"""Vectors that are kept: a vector must still be there when its request, which waited with others, is scored."""
BATCH, QUEUE = 8, 64
"""Texts that are computed together, and that may wait: at 250 a second, a quarter of a second."""
BLOCK = 256
"""Texts that `many` sorts by length at a time."""
PADDING = 1.25
"""A batch ends before padding makes it so many times as large."""
MARKS = {100: "[UNK]", 101: "[CLS]", 102: "[SEP]"}
_CLS, _SEP = 101, 102


class Embedder:
    """A session of ONNX Runtime. Computing is blocking and thread-safe, and lets other threads run."""

    def __init__(self, model: ModelFile) -> None:
        """Open the session and try it out.

        Raises:
            EmbeddingError: the `onnx` extra is missing, or this ONNX Runtime cannot compute the model.
        """
        wrong = [mark for id, mark in MARKS.items() if model.words[id : id + 1] != (mark,)]
        if wrong:
            raise EmbeddingError(
                f"{model.source} has not BERT's vocabulary: {', '.join(wrong)} not where expected."
            )
        self.kind = f"onnx-{model.precision}"
        ends = marked(np.arange(4 * LONGEST, dtype=np.uint16))
        self.digest = sha256(model.digest.encode() + ends.tobytes()).hexdigest()
        self._vocabulary = Vocabulary.build(list(model.words))
        self._errors: tuple[type[Exception], ...] = ()
        self._session = self._open(model)
        self.dimension = int(self.embed(np.array([_CLS], np.uint16)).shape[0])

    def tokenizer(self) -> WordPiece:
        """A tokenizer with a cache of its own."""
        return WordPiece(self._vocabulary)

    def embed(self, ids: Ids) -> Vector:
        """The embedding of one text's pieces (without [CLS] and [SEP]), float32 (d,), unit norm."""
        vector: Vector = self._compute([marked(ids)])[0]
        return vector

    def batch(self, texts: Sequence[Ids]) -> list[Vector]:
        """The embeddings of several texts, in their order, computed in batches of similar length."""
        tokens = [marked(ids) for ids in texts]
        found: dict[int, Vector] = {}
        for places in grouped([len(one) for one in tokens]):
            rows = self._compute([tokens[place] for place in places])
            found.update(zip(places, rows, strict=True))
        return [found[place] for place in range(len(tokens))]

    def _compute(self, tokens: list[npt.NDArray[np.int32]]) -> Matrix:
        ids = np.zeros((len(tokens), max(map(len, tokens))), np.int32)
        mask = np.zeros_like(ids)
        for place, one in enumerate(tokens):
            ids[place, : len(one)] = one
            mask[place, : len(one)] = 1
        try:
            rows = self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        except self._errors as error:
            raise EmbeddingError(f"ONNX Runtime cannot compute {self.kind}: {error}") from error
        return np.asarray(rows, np.float32)

    def _open(self, model: ModelFile) -> Any:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as native
        except ImportError as error:
            raise EmbeddingError(
                "The 'onnx' features need ONNX Runtime: pip install 'routeiq-router[onnx]'."
            ) from error
        self._errors = tuple(
            kind
            for kind in vars(native).values()
            if isinstance(kind, type) and issubclass(kind, Exception)
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False  # it would keep what the longest batch ever needed
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                model.content, options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise EmbeddingError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {model.source} as {self.kind}: {error} "
                "int8 needs version 1.22 or newer; try 'onnx-fp32'."
            ) from error


class OnnxFeatures(Features):
    """The same vector as `Features` with MiniLM in it. For one event loop; `many` not while `warm` is used."""

    off_loop = True

    def __init__(self, embedder: Embedder, *, cache: int = ENTRIES) -> None:
        super().__init__(embedder, kind=embedder.kind, cache=cache)
        self._embedder = embedder
        self._overloads = 0
        self._batcher: MicroBatcher[bytes, Vector] = MicroBatcher(
            self._run, max_batch=BATCH, max_wait_ms=0.0, max_queue=QUEUE
        )

    @property
    def overloads(self) -> int:
        """How many requests found the queue full and have no vector."""
        return self._overloads

    @property
    def batcher(self) -> MicroBatcher[bytes, Vector]:
        """What computes the embeddings, with its counts."""
        return self._batcher

    def one(self, request: RoutingRequest) -> Any:
        """The features of a request, float32 (d,), read-only; `None` if `warm` did not make them."""
        return self._cache.get(content_key(request))

    async def warm(self, request: RoutingRequest) -> None:
        """Compute the features of a request in a thread and keep them for `one`; nothing under overload.

        Raises:
            EmbeddingError: ONNX Runtime failed.
        """
        key = content_key(request)
        if self._cache.get(key) is not None:
            return
        if self._batcher.full:  # before the work on the text, which would only add to the load
            self._overloads += 1
            return
        asked, words = self._asked(request)
        vector = await self._batcher.submit(self._tokens.ids(words).tobytes())
        if vector is not None and request.system:
            system = await self._warm_gist(gist(request.system))
            vector = None if system is None else coloured(vector, system)
        if vector is None:
            self._overloads += 1
        else:
            self._cache.put(key, self._row(vector, asked, words, request))

    def many(self, requests: Sequence[RoutingRequest]) -> Matrix:
        """The features of requests, float32 (n, d), computed here and now, past the cache."""
        rows = np.empty((len(requests), self.dimension), np.float32)
        for start in range(0, len(requests), BLOCK):
            block = requests[start : start + BLOCK]
            asked = [self._asked(request) for request in block]
            vectors = self._embedder.batch([self._tokens.ids(words) for _, words in asked])
            for place, (request, (text, words)) in enumerate(zip(block, asked, strict=True)):
                vector = vectors[place]
                if request.system:
                    vector = coloured(vector, self._gist(request.system))
                rows[start + place] = self._row(vector, text, words, request)
        return rows

    def close(self) -> None:
        """Let the thread end; callers that wait get nothing."""
        self._batcher.close()

    def _row(
        self, vector: Vector, asked: str, words: list[bytes], request: RoutingRequest
    ) -> Vector:
        return np.concatenate([vector, np.array(lexical(asked, words, request), np.float32)])

    async def _warm_gist(self, start: str) -> Vector | None:
        """The embedding of the beginning of a system prompt; `None` under overload."""
        vector = self._gists.get(start)
        if vector is None:
            vector = await self._batcher.submit(self._tokens.encode(start).tobytes())
            if vector is not None:
                if len(self._gists) >= GISTS:
                    self._gists.clear()
                self._gists[start] = vector
        return vector

    def _run(self, texts: list[bytes]) -> list[Vector]:
        return self._embedder.batch([np.frombuffer(text, np.uint16) for text in texts])


def load_onnx(
    precision: Precision = "int8", *, search: Search | None = None, cache: int = ENTRIES
) -> OnnxFeatures:
    """Find MiniLM and open it.

    Args:
        precision: `int8` or `fp32`.
        search: where to look; by default only the Python package that carries it.
        cache: how many vectors are kept between `warm` and `one`; 0 only for `many`.

    Raises:
        EmbeddingError: it was not found, or cannot be used.
    """
    return OnnxFeatures(Embedder(open_model(search or Search(), precision)), cache=cache)


def marked(ids: Ids) -> npt.NDArray[np.int32]:
    """The pieces between [CLS] and [SEP]; of too many, the first and the last half of what fits."""
    room = LONGEST - 2
    if len(ids) > room:
        ids = np.concatenate([ids[: room // 2], ids[-room // 2 :]])
    tokens = np.empty(len(ids) + 2, np.int32)
    tokens[0], tokens[1:-1], tokens[-1] = _CLS, ids, _SEP
    return tokens


def grouped(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts that are computed together: at most `BATCH`, and little padding."""
    group: list[int] = []
    total = 0
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        size = lengths[place] * (len(group) + 1)
        if group and (len(group) >= BATCH or size > PADDING * (total + lengths[place])):
            yield group
            group, total = [], 0
        group.append(place)
        total += lengths[place]
    if group:
        yield group
