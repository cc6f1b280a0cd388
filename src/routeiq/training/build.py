"""From records to the table that estimators are fitted on: one pass, batches, memory bounded.

A record becomes the request that a gateway would see (`routing.request.parse_request`), so that long texts are cut
and tokens are counted as in serving. Features above `MAPPED_BYTES` live in a temporary file that is mapped and has
no name: it is gone with the process.
"""

from __future__ import annotations

import binascii
import logging
import tempfile
from base64 import b64decode
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import IO, Protocol

import numpy as np
import orjson

from routeiq.routing.request import parse_request
from routeiq.strategies.prior import difficulty
from routeiq.types import RoutingRequest

from .columns import Columns
from .errors import DataError
from .records import Preference, Record
from .splits import text_hash
from .table import Matrix, Table

_log = logging.getLogger(__name__)
BATCH = 1024
"""Rows that are featurised at once."""
MAPPED_BYTES = 512 * 2**20
"""Bytes of features above which they move to a file."""


class Featuriser(Protocol):
    """What is needed of `embeddings.features.Features`."""

    @property
    def fingerprint(self) -> str:
        """What the vectors depend on."""

    @property
    def dimension(self) -> int:
        """Numbers per vector."""

    def many(self, requests: Sequence[RoutingRequest]) -> Matrix:
        """The vectors of some requests, (n, d)."""


def build_table(
    source: Iterable[Record | Preference],
    *,
    features: Featuriser | None = None,
    keep_texts: bool = False,
    max_rows: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Table:
    """Read everything into a table.

    Records without a score are left out, as are live records without a text whose vector is of another
    fingerprint; the log says how many. Preferences about the same text share a row.

    Args:
        source: records and preferences, as `reading.read` gives them.
        features: what makes the vectors; the static features by default.
        keep_texts: keep the prompts (for reports and nearest neighbours).
        max_rows: stop after so many rows.
        progress: called with the number of rows so far, after every batch.

    Raises:
        DataError: nothing is left that could be learned from.
    """
    if features is None:
        from routeiq.embeddings.features import load_features

        features = load_features()
    building = _Building(features, keep_texts)
    for item in source:
        if max_rows is not None and building.rows >= max_rows:
            break
        building.add(item)
        if building.full:
            building.flush()
            if progress is not None:
                progress(building.rows)
    table = building.finish()
    if progress is not None:
        progress(len(table))
    return table


class _Building:
    """The growing table."""

    def __init__(self, features: Featuriser, keep_texts: bool) -> None:
        self._features = features
        self._vectors = _Vectors(features.dimension)
        self._outcomes = Columns()
        self._texts: list[str] | None = [] if keep_texts else None
        self._batch: list[tuple[Record, Matrix | None]] = []
        self._ids: list[str] = []
        self._tasks: list[str] = []
        self._task_names: dict[str, str] = {}
        self._groups: list[int] = []
        self._prior: list[float] = []
        self._preferences: list[tuple[int, str, str, float]] = []
        self._compared: dict[int, int] = {}
        self._weights: dict[int, float] = {}
        self._digest = sha256()
        self._dropped = 0

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self._ids)

    @property
    def full(self) -> bool:
        """Whether a batch is complete."""
        return len(self._batch) >= BATCH

    def add(self, item: Record | Preference) -> None:
        """Take a record or a preference."""
        if isinstance(item, Preference):
            self._compare(item)
            return
        vector = self._vector(item)
        if not item.scores or (not item.text and vector is None):
            self._dropped += 1
            return
        self._row(item, vector)

    def _compare(self, item: Preference) -> None:
        group = text_hash(item.text)
        row = self._compared.get(group)
        if row is None:
            row = self._compared[group] = self.rows
            self._row(Record(id=item.id, text=item.text, scores={}, task=item.task), None)
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}[item.winner]
        self._outcomes.know(item.model_a, item.model_b)
        self._preferences.append((row, item.model_a, item.model_b, share))
        self._digest.update(orjson.dumps([row, item.model_a, item.model_b, share]))

    def _row(self, record: Record, vector: Matrix | None) -> None:
        self._batch.append((record, vector))
        self._ids.append(record.id)
        self._tasks.append(self._task_names.setdefault(record.task, record.task))
        self._groups.append(text_hash(record.text or record.id))
        if self._texts is not None:
            self._texts.append(record.text)

    def _vector(self, record: Record) -> Matrix | None:
        """The vector that a gateway recorded, where it is of the same features."""
        given = record.extra.get("features")
        if given is None or record.extra.get("fingerprint") != self._features.fingerprint:
            return None
        try:
            vector = np.frombuffer(b64decode(given, validate=True), dtype="<f2")
        except (binascii.Error, ValueError, TypeError):
            return None
        if len(vector) != self._features.dimension or not np.isfinite(vector).all():
            return None
        return vector.astype(np.float32)

    def flush(self) -> None:
        """Featurise the batch and put it away."""
        if not self._batch:
            return
        records = [record for record, _ in self._batch]
        requests = [request_of(record) for record in records]
        vectors = np.array(self._features.many(requests), dtype=np.float32)
        for index, (_, vector) in enumerate(self._batch):
            if vector is not None:
                vectors[index] = vector
        self._vectors.add(vectors)
        self._outcomes.add(records)
        self._prior.extend(map(difficulty, requests))
        for record in records:
            self._digest.update(_canonical(record))
        self._batch.clear()

    def finish(self) -> Table:
        """The table."""
        self.flush()
        if not self._ids:
            raise DataError("there is no record with a score in the data")
        if self._dropped:
            _log.warning("%d records without a score or a text were left out", self._dropped)
        models, matrices = self._outcomes.finish(self.rows)
        places = {model: float(place) for place, model in enumerate(models)}
        compared = [(row, places[a], places[b], share) for row, a, b, share in self._preferences]
        return Table(
            ids=tuple(self._ids),
            tasks=tuple(self._tasks),
            models=models,
            features=self._vectors.finish(),
            fingerprint=self._features.fingerprint,
            **matrices,
            weights=np.ones(self.rows, dtype=np.float32),
            preferences=np.array(compared, dtype=np.float32).reshape(-1, 4),
            prior=np.array(self._prior, dtype=np.float32),
            digest=self._digest.hexdigest(),
            texts=None if self._texts is None else tuple(self._texts),
            groups=np.array(self._groups, dtype=np.uint64),
        )


class _Vectors:
    """Rows of features: in memory while they are few, in a mapped file after that."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._chunks: list[Matrix] = []
        self._bytes = 0
        self._rows = 0
        self._file: IO[bytes] | None = None

    def add(self, vectors: Matrix) -> None:
        """Append rows, (n, d)."""
        self._rows += len(vectors)
        self._bytes += vectors.nbytes
        self._chunks.append(vectors)
        if self._file is not None or self._bytes > MAPPED_BYTES:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="routeiq-features-")  # noqa: SIM115
            for chunk in self._chunks:
                self._file.write(chunk.tobytes())
            self._chunks.clear()

    def finish(self) -> Matrix:
        """All rows, (n, d)."""
        if self._file is None:
            return np.concatenate(self._chunks)
        self._file.flush()
        shape = (self._rows, self._dimension)
        mapped: Matrix = np.memmap(self._file, dtype=np.float32, mode="r+", shape=shape)
        self._file.close()
        return mapped


def request_of(record: Record) -> RoutingRequest:
    """The chat request with this record's text, as a gateway would parse it."""
    messages = [{"role": "user", "content": record.text}]
    return parse_request("chat", {"model": "auto", "messages": messages}, id=record.id)


def _canonical(record: Record) -> bytes:
    return orjson.dumps(
        [
            record.id,
            record.task,
            record.text,
            dict(record.scores),
            dict(record.costs),
            dict(record.latencies),
            dict(record.output_tokens),
        ],
        option=orjson.OPT_SORT_KEYS,
    )
