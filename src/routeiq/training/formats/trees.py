"""Which files of a folder are data: all that can be read, or the known ones of a known layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MOST_FILES = 100_000
_TIME = re.compile(r"_?\d{4}-?\d\d-?\d\d[T_ -]?[\d.:_-]*$")


def tree_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The data files in a folder and below it, by name.

    lm-evaluation-harness writes `results_*.json` beside `samples_*.jsonl`: where there are samples, only they
    are data. Of files in one folder that differ only in a time at the end of their names (repeated runs of a
    benchmark: LLMRouterBench, lm-evaluation-harness) the last one counts.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and _suffix(path) in suffixes
    )[:MOST_FILES]
    samples = [path for path in files if path.name.startswith("samples_")]
    runs = {(path.parent, _TIME.sub("", _stem(path))): path for path in samples or files}
    return sorted(runs.values())


def task_of(path: Path) -> str:
    """A file's name without its endings and without the time of its run."""
    return _TIME.sub("", _stem(path))


def _stem(path: Path) -> str:
    name = path.with_suffix("").name if path.suffix == ".gz" else path.name
    return name.removesuffix(Path(name).suffix)


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
