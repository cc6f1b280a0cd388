"""What can go wrong offline: data that cannot be used, an extra that is not installed.

RouteIQError
└── TrainingError
    ├── DataError       a data set cannot be read or used; `problems` says where and what
    └── MissingExtra    an optional package is needed; the message has the command that installs it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from routeiq.exceptions import RouteIQError


class TrainingError(RouteIQError):
    """The root of what is raised offline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProblem:
    """One thing that is wrong with a data set. `row` counts from 1 (lines of JSONL, data rows of a table)."""

    message: str
    file: str = ""
    row: int | None = None

    def __str__(self) -> str:
        """`file:row: message`."""
        where = self.file if self.row is None else f"{self.file}:{self.row}"
        return f"{where}: {self.message}" if where else self.message


class DataError(TrainingError):
    """A data set cannot be used. `problems` has the first that were found, `total` counts all of them."""

    def __init__(self, problems: Sequence[DataProblem] | str, *, total: int | None = None) -> None:
        if isinstance(problems, str):
            problems = (DataProblem(message=problems),)
        self.problems = tuple(problems)
        self.total = len(self.problems) if total is None else total
        lines = [str(problem) for problem in self.problems]
        if self.total > len(lines):
            lines.append(f"... {self.total} problems in all; the first {len(lines)} are shown.")
        super().__init__("\n".join(lines))


class MissingExtra(TrainingError):
    """An optional package is not installed."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Raises:
        MissingExtra: it is not installed; the message says what it is for and how to get it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(
            f"{purpose} needs {package}, which is not installed: "
            f"pip install 'routeiq-router[{extra}]'"
        ) from error
