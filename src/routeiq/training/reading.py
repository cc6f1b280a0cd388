"""From files of any known format to records, in bounded memory.

Formats with one row per prompt stream through. Formats with one row per prompt and model are joined on disk first
(`formats/joining.py`), and their records come after all rows were read. Every record is checked; problems are
collected with file and row, and raised together at the end (or after `validation.MOST` of them).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from .errors import DataError, DataProblem
from .formats import detect, format_named
from .formats.base import BadRow, Cell, Format, Item, Row, Values, shown
from .formats.joining import Joiner, Prices
from .formats.prices import is_price_list, price_list
from .formats.rows import SUFFIXES, read_rows
from .formats.trees import tree_files
from .records import Preference, Record
from .validation import Problems, Seen, check

Source = str | os.PathLike[str]
Value = TypeVar("Value")


def read(
    source: Source | Sequence[Source],
    *,
    format: str | None = None,
    prices: Prices | None = None,
    problems: Problems | None = None,
    allow_evaluation_only: bool = False,
) -> Iterator[Record | Preference]:
    """Read one or several files or folders.

    Args:
        source: paths; of a folder every file that can be read, in the order of names.
        format: the name of a format, where the keys of the first row do not tell.
        prices: USD per prompt and answer token of models, for formats that count tokens but know no costs. A price
            list (LLMRouter's llm_candidates) may also stand among the paths.
        problems: collects what is wrong with single rows, which are then left out; without it they are raised.
        allow_evaluation_only: read data that its owners forbid to train on.

    Raises:
        DataError: something cannot be used; `problems` says where and what.
    """
    paths = _paths(source)
    return _read(
        paths,
        None if format is None else format_named(format),
        prices or {},
        problems,
        allow_evaluation_only,
    )


def detect_format(path: Source) -> Format:
    """The format of a file or folder, by the keys of its first row.

    Raises:
        DataError: no format has these keys.
    """
    problems = Problems()
    for one in _paths(path):
        with closing(read_rows(one, problems)) as rows:
            for row in rows:
                if not is_price_list(row.values):
                    return _detected(row)
    problems.fail()
    raise DataError([DataProblem(message="there is no row in it", file=str(path))])


def prices_of(source: Source | Sequence[Source]) -> Prices:
    """The prices in the price lists among some files, USD per prompt and answer token."""
    return _price_lists(_paths(source))[0]


def read_pairs(
    path: Source, convert: Callable[[Values], tuple[str, Value]]
) -> Iterator[tuple[str, Value]]:
    """Rows of a file that are no records: an id and something each.

    Raises:
        DataError: a row is not what `convert` wants.
    """
    problems = Problems()
    for row in read_rows(Path(path), problems):
        try:
            yield convert(row.values)
        except BadRow as wrong:
            problems.add(str(wrong), file=row.file, row=row.number)
    problems.fail()


def _read(
    paths: list[Path],
    given: Format | None,
    prices: Prices,
    problems: Problems | None,
    allowed: bool,
) -> Iterator[Record | Preference]:
    found = Problems() if problems is None else problems
    lists, files = _price_lists(paths) if given is None else ({}, paths)
    reader = _Reader(found, given, allowed, files)
    with ExitStack() as stack:
        joiner = stack.enter_context(Joiner({**lists, **prices}))
        for path in files:
            for row, scope, item in reader.items(path):
                if isinstance(item, Cell):
                    joiner.add(item, row, scope=scope)
                elif reader.good(item, row.file, row.number):
                    yield item
        for file, number, record in joiner.records():
            if reader.good(record, file, number):
                yield record
    if reader.rows == 0 and not found.total:
        found.add("there is no row in it", file=", ".join(map(str, files[:3])))
    if problems is None:
        found.fail()


class _Reader:
    """What is known while reading: the files' formats so far and the ids that were there."""

    def __init__(
        self, problems: Problems, given: Format | None, allowed: bool, files: list[Path]
    ) -> None:
        self._problems = problems
        self._given = given
        self._allowed = allowed
        self._origins = _origins(files)
        self._seen = Seen()
        self.rows = 0

    def items(self, path: Path) -> Iterator[tuple[Row, str, Item]]:
        """What the rows of one file say, and in which format."""
        chosen = self._given
        for row in read_rows(path, self._problems, origin=self._origins[path]):
            self.rows += 1
            if chosen is None:
                chosen = _detected(row)
            if chosen.forbidden and not self._allowed:
                raise DataError([DataProblem(message=chosen.forbidden, file=row.file)])
            try:
                for item in chosen.convert(row):
                    yield row, chosen.name, item
            except BadRow as wrong:
                self._problems.add(f"{wrong} ({chosen.name})", file=row.file, row=row.number)

    def good(self, item: Record | Preference, file: str, row: int) -> bool:
        """Whether a record can be used; notes what is wrong with it."""
        wrong = check(item)
        if not wrong and self._seen.again(f"{file}\n{item.id}"):
            wrong = [f"the id {shown(item.id)} was there before in this file"]
        for message in wrong:
            self._problems.add(message, file=file, row=row)
        return not wrong


def _detected(row: Row) -> Format:
    found = detect({**row.header, **row.values})
    if found is None:
        keys = ", ".join(sorted(map(str, row.values))[:12])
        message = (
            f"no known format has these keys: {keys[:300]}. Name one with `format`, or write the plain form: "
            "{id, task, text, scores: {model: 0..1}, costs: {model: USD}}"
        )
        raise DataError([DataProblem(message=message, file=row.file, row=row.number)])
    return found


def _paths(source: Source | Sequence[Source]) -> list[Path]:
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    found: list[Path] = []
    for one in map(Path, given):
        if one.is_dir():
            inside = tree_files(one, SUFFIXES)
            if not inside:
                message = f"no file in this folder can be read; they end in {', '.join(SUFFIXES)}"
                raise DataError([DataProblem(message=message, file=str(one))])
            found.extend(inside)
        elif one.exists():
            found.append(one)
        else:
            raise DataError([DataProblem(message="no such file or folder", file=str(one))])
    if not found:
        raise DataError("no file was given")
    return found


def _origins(files: list[Path]) -> dict[Path, str]:
    """Short names for ids: the file's name, with the folders that tell files of one name apart."""
    names = {path.name for path in files}
    if len(names) == len(set(files)):
        return {path: path.name for path in files}
    absolute = {path: path.absolute() for path in files}
    common = Path(os.path.commonpath([one.parent for one in absolute.values()]))
    return {path: one.relative_to(common).as_posix() for path, one in absolute.items()}


def _price_lists(paths: list[Path]) -> tuple[Prices, list[Path]]:
    """The prices that stand among the files, and the other files."""
    prices: dict[str, tuple[float, float]] = {}
    others = []
    for path in paths:
        row = None
        if ".json" in path.suffixes:
            with closing(read_rows(path, Problems())) as rows:
                row = next(rows, None)
        if row is not None and is_price_list(row.values):
            prices |= price_list(row)
        else:
            others.append(path)
    return prices, others
