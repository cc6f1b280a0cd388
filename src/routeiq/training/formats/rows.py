"""From files to rows, in bounded memory: JSONL, JSON, CSV and TSV, Parquet; each also as .gz (not Parquet).

A line, a cell or a JSON document has a largest size, so that a broken file ends in a message, not in swapping.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import IO, Any, cast

import orjson

from routeiq.training.errors import DataError, DataProblem, require
from routeiq.training.validation import Problems

from .base import Row

LINE_LIMIT = 32 * 2**20
"""Bytes of a JSONL line or a CSV cell."""
DOCUMENT_LIMIT = 2**30
"""Bytes of a .json document, which cannot be read in pieces."""
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_BATCH = 1024
_PICKLE = (
    "pickles are never loaded, because opening one runs whatever code it holds. Convert it where you trust it: "
    "python -c \"import pandas; pandas.read_pickle('{name}').to_parquet('{stem}.parquet')\""
)


def file_kind(path: Path) -> str:
    """The suffix that says what is in a file, without `.gz`.

    Raises:
        DataError: nothing that can be read, and what to do about it.
    """
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    suffix = suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    if suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib"):
        message = _PICKLE.format(name=path.name, stem=path.stem)
    else:
        message = f"not a kind of file that can be read; it must be one of {', '.join(SUFFIXES)}"
    raise DataError([DataProblem(message=message, file=str(path))])


def read_rows(path: Path, problems: Problems, *, origin: str = "") -> Generator[Row, None, None]:
    """The rows of one file. What is wrong with single rows goes to `problems`; `origin` is for ids.

    Raises:
        DataError: the file cannot be opened or is damaged.
    """
    name = str(path)
    try:
        for row in _rows(path, file_kind(path), problems):
            yield replace(row, origin=origin) if origin else row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError([DataProblem(message=f"damaged gzip: {error}", file=name)]) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError([DataProblem(message=f"cannot be read: {reason}", file=name)]) from error


def _rows(path: Path, kind: str, problems: Problems) -> Iterator[Row]:
    name = str(path)
    if kind == ".parquet":
        yield from _parquet(path)
        return
    with _open(path) as stream:
        if kind in (".csv", ".tsv"):
            yield from _table(stream, name, "\t" if kind == ".tsv" else ",", problems)
        elif kind == ".json":
            yield from _document(stream, name, problems)
        else:
            yield from _lines(stream, name, problems)


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _lines(stream: IO[bytes], file: str, problems: Problems) -> Iterator[Row]:
    number = 0
    while line := stream.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) > LINE_LIMIT:
            while not line.endswith(b"\n") and (line := stream.readline(LINE_LIMIT)):
                pass
            problems.add(f"longer than {LINE_LIMIT // 2**20} MiB", file=file, row=number)
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.isspace():
            continue
        yield from _decoded(line, file, number, problems)


def _decoded(line: bytes, file: str, number: int, problems: Problems) -> Iterator[Row]:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        problems.add(_json_message(line, error), file=file, row=number)
        return
    if isinstance(values, dict):
        yield Row(file=file, number=number, values=values)
    else:
        problems.add(f"must be a JSON object, not {type(values).__name__}", file=file, row=number)


def _json_message(data: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"not UTF-8 (byte {wrong.start})"
    if b"NaN" in data or b"Infinity" in data:
        return (
            "not valid JSON: NaN and Infinity do not exist in it; leave out what was not measured"
        )
    return f"not valid JSON: {error.msg} (column {error.colno})"


def _document(stream: IO[bytes], file: str, problems: Problems) -> Iterator[Row]:
    """A list of objects, an object with a list `records`, an object of objects, or JSONL by another name."""
    data = stream.read(DOCUMENT_LIMIT + 1)
    if len(data) > DOCUMENT_LIMIT:
        message = (
            f"larger than {DOCUMENT_LIMIT // 2**20} MiB; write it as JSONL, one object per line"
        )
        raise DataError([DataProblem(message=message, file=file)])
    try:
        content = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        if b"\n" in data.strip() and error.lineno > 1:
            yield from _lines(io.BytesIO(data), file, problems)
            return
        message = _json_message(data, error)
        raise DataError([DataProblem(message=message, file=file)]) from error
    yield from _objects(content, file, problems)


def _objects(content: Any, file: str, problems: Problems) -> Iterator[Row]:
    header: dict[str, Any] = {}
    if isinstance(content, dict):
        header = {key: value for key, value in content.items() if key != "records"}
        content = content["records"] if isinstance(content.get("records"), list) else [content]
    if not isinstance(content, list):
        message = f"must be a list of objects, not {type(content).__name__}"
        raise DataError([DataProblem(message=message, file=file)])
    for number, values in enumerate(content, 1):
        if isinstance(values, dict):
            yield Row(file=file, number=number, values=values, header=header)
        else:
            message = f"must be a JSON object, not {type(values).__name__}"
            problems.add(message, file=file, row=number)


def _table(stream: IO[bytes], file: str, delimiter: str, problems: Problems) -> Iterator[Row]:
    # The limit is the csv module's own, for the whole process; it only ever grows to the same number.
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LIMIT))
    # Bytes that are not UTF-8 become lone surrogates, so that one bad row does not end the reading.
    with io.TextIOWrapper(
        stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as lines:
        reader = csv.reader(_without_nul(lines), delimiter=delimiter)
        yield from _cells(reader, file, problems)


def _cells(reader: Iterator[list[str]], file: str, problems: Problems) -> Iterator[Row]:
    number = 0
    names: list[str] = []
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            number += 1
            problems.add(f"not valid CSV: {error}", file=file, row=number)
            continue
        if cells is None:
            return
        if not names:
            names = _column_names(cells, file)
        elif cells:
            number += 1
            yield from _named(cells, names, file, number, problems)


def _named(
    cells: list[str], names: list[str], file: str, number: int, problems: Problems
) -> Iterator[Row]:
    if len(cells) != len(names):
        problems.add(f"{len(cells)} cells under {len(names)} columns", file=file, row=number)
    elif any(map(_broken, cells)):
        problems.add("not UTF-8", file=file, row=number)
    else:
        yield Row(file=file, number=number, values=dict(zip(names, cells, strict=True)))


def _without_nul(lines: IO[str]) -> Iterator[str]:
    while line := lines.readline(LINE_LIMIT):
        yield line.replace("\0", "\udc00")


def _column_names(cells: list[str], file: str) -> list[str]:
    twice = {name for name in cells if cells.count(name) > 1} if len(cells) < 10_000 else set()
    if twice or not any(cells) or any(map(_broken, cells)):
        message = f"two columns are called {min(twice)!r}" if twice else "no usable header"
        raise DataError([DataProblem(message=message, file=file)])
    return cells


def _broken(cell: str) -> bool:
    if cell.isascii():
        return False
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _parquet(path: Path) -> Iterator[Row]:
    parquet = require("pyarrow.parquet", extra="train", purpose="reading Parquet")
    arrow = require("pyarrow", extra="train", purpose="reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for values in batch.to_pylist(maps_as_pydicts="lossy"):
                    number += 1
                    yield Row(file=str(path), number=number, values=_measured(values))
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        message = f"not a usable Parquet file: {error}"
        raise DataError([DataProblem(message=message, file=str(path))]) from error


def _measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without NaN, which is how data frames write that nothing was measured."""
    return {
        name: _measured(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if not (isinstance(value, float) and isnan(value))
    }
