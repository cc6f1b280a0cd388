"""Puts the rows of a long format together: all that was said about a prompt becomes one record.

The rows go to a temporary SQLite database without a name: it lives in a cache of 64 MB, spills to the system's
folder for temporary files, and is gone with the process. Rows of one prompt may stand anywhere, in any file.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from routeiq.training.errors import DataError
from routeiq.training.records import Record

from .base import Cell, Row

_log = logging.getLogger(__name__)
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -65536;
CREATE TABLE prompts (
  key BLOB UNIQUE, id TEXT, text TEXT, task TEXT, chosen TEXT, extra BLOB,
  file TEXT, number INTEGER, place TEXT);
CREATE TABLE cells (
  key BLOB, model TEXT, score REAL, cost REAL, latency REAL, input_tokens REAL, output_tokens REAL,
  rated INTEGER);
"""
_PROMPT = """
INSERT INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
  id = coalesce(id, excluded.id), text = coalesce(text, excluded.text),
  task = coalesce(task, excluded.task), chosen = coalesce(chosen, excluded.chosen),
  extra = coalesce(extra, excluded.extra)
"""
_RECORDS = """
SELECT p.rowid, p.file, p.number, coalesce(p.id, p.place), p.text, p.task, p.chosen, p.extra,
  coalesce(c.model, p.chosen),
  avg(CASE WHEN c.rated THEN c.score / ? ELSE c.score END), avg(c.cost), avg(c.latency),
  avg(c.input_tokens), avg(c.output_tokens)
FROM prompts p JOIN cells c ON c.key = p.key
GROUP BY p.rowid, coalesce(c.model, p.chosen) ORDER BY p.rowid, min(c.rowid)
"""
_BATCH = 4096
SCALES = (1.0, 5.0, 10.0)
"""Scales of ratings: the smallest that holds the highest rating is taken."""
Prices = Mapping[str, tuple[float, float]]
"""USD per token of every model: of the prompt, of the answer."""


class _Outcome(NamedTuple):
    """A row of `_RECORDS`."""

    prompt: int
    file: str
    number: int
    id: str
    text: str | None
    task: str | None
    chosen: str | None
    extra: bytes | None
    model: str
    score: float | None
    cost: float | None
    latency: float | None
    read: float | None
    written: float | None


class Joiner:
    """Takes cells in any order, gives records in the order in which their prompts first came.

    Several measurements of one model on one prompt are averaged. Where a row counts tokens but knows no cost,
    the cost follows from `prices`.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._highest = 0.0
        self._database = sqlite3.connect("")
        self._database.executescript(_SCHEMA)
        self._prompts: list[tuple[Any, ...]] = []
        self._cells: list[tuple[Any, ...]] = []

    def __enter__(self) -> Joiner:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            raise DataError(
                f"the temporary database for joining rows failed: {error}. It is in the folder for temporary "
                "files; set TMPDIR (SQLITE_TMPDIR) to one with enough space"
            ) from error

    def add(self, cell: Cell, row: Row, *, scope: str = "") -> None:
        """Take one cell and the row where it stood. Keys are compared within a scope: the format."""
        named = f"{scope}\n{cell.key}".encode("utf-8", "surrogatepass")
        key = blake2b(named, digest_size=16).digest()
        chosen = cell.model if cell.chosen else None
        extra = orjson.dumps(dict(cell.extra), default=str) if cell.extra else None
        self._prompts.append(
            (
                key,
                cell.id or None,
                cell.text or None,
                cell.task or None,
                chosen,
                extra,
                row.file,
                row.number,
                row.place,
            )
        )
        measured = (cell.score, cell.cost, cell.latency, cell.input_tokens, cell.output_tokens)
        self._cells.append((key, cell.model or None, *measured, cell.rated))
        if cell.rated and cell.score is not None:
            self._highest = max(self._highest, cell.score)
        if len(self._cells) >= _BATCH:
            self._flush()

    def records(self) -> Iterator[tuple[str, int, Record]]:
        """Every prompt once, with the file and row where it first stood."""
        self._flush()
        scale = next((one for one in SCALES if self._highest <= one), 1.0)
        rows = self._database.execute(_RECORDS, (scale,))
        orphans = 0
        for _, group in groupby(rows, key=itemgetter(0)):
            outcomes = [_Outcome(*row) for row in group]
            if outcomes[0].text is None and not any(one.model for one in outcomes):
                orphans += 1  # feedback on a decision that rotation or a failure took away
                continue
            yield self._record(outcomes)
        if orphans:
            _log.warning("feedback on decisions that are not in the log", extra={"rows": orphans})

    def _flush(self) -> None:
        self._database.executemany(_PROMPT, self._prompts)
        self._database.executemany("INSERT INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._cells)
        self._prompts.clear()
        self._cells.clear()

    def _record(self, rows: list[_Outcome]) -> tuple[str, int, Record]:
        first = rows[0]
        extra = orjson.loads(first.extra) if first.extra else {}
        rows = [row for row in rows if row.model]  # feedback whose decision never came has none
        costs = {row.model: cost for row in rows if (cost := self._cost(row)) is not None}
        record = Record(
            id=first.id,
            text=first.text or "",
            scores={row.model: row.score for row in rows if row.score is not None},
            costs={**extra.pop("costs", {}), **costs},
            latencies={row.model: row.latency for row in rows if row.latency is not None},
            output_tokens={row.model: row.written for row in rows if row.written is not None},
            task=first.task or "",
            propensities=extra.pop("propensities", {}),
            chosen=first.chosen,
            extra=extra,
        )
        return first.file, first.number, record

    def _cost(self, row: _Outcome) -> float | None:
        unknown = row.read is None and row.written is None
        if row.cost is not None or unknown or row.model not in self._prices:
            return row.cost
        per_input, per_output = self._prices[row.model]
        return (row.read or 0.0) * per_input + (row.written or 0.0) * per_output
