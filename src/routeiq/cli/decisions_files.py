"""The files that `routeiq decisions export` writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import orjson

from routeiq.state.decisions.export import lines, pages
from routeiq.stores import Decisions
from routeiq.types import JsonObject

TEXTS = (
    "decision_id",
    "request_id",
    "key",
    "team",
    "operation",
    "requested",
    "strategy",
    "profile",
    "reason",
    "chosen",
    "model",
    "deployment",
    "provider",
    "outcome",
    "error",
    "session_id",
    "experiment",
    "variant",
    "route_text_hash",
    "route_text",
    "fingerprint",
    "features",
)
NUMBERS = (
    "time",
    "propensity",
    "decision_ms",
    "duration_ms",
    "first_token_ms",
    "cost_usd",
)
WHOLE = ("status", "attempts", "input_tokens", "output_tokens", "cached_input_tokens")
FLAGS = ("stream", "explored", "hint_followed")


async def write_jsonl(decisions: Decisions, query: Mapping[str, Any], out: Path) -> int:
    """One line a decision, and one for each feedback on it; how many decisions."""
    count = 0
    with _beside(out) as part, open(part, "wb") as file:  # noqa: ASYNC230 - nothing else runs
        async for page in pages(decisions, query):
            file.write(lines(page))
            count += len(page)
        file.flush()
        os.fsync(file.fileno())
    return count


async def write_parquet(decisions: Decisions, query: Mapping[str, Any], out: Path) -> int:
    """One row a decision: columns for what is plain, `record` with everything as JSON, `score` from feedback.

    Raises:
        ClickException: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise click.ClickException(
            f"parquet needs pyarrow ({error}): pip install 'routeiq-router[train]'"
        ) from error
    kinds = (
        (TEXTS, pyarrow.string()),
        (NUMBERS, pyarrow.float64()),
        (WHOLE, pyarrow.int64()),
        (FLAGS, pyarrow.bool_()),
    )
    fields = [(name, kind) for names, kind in kinds for name in names]
    schema = pyarrow.schema([*fields, ("score", pyarrow.float64()), ("record", pyarrow.string())])
    count = 0
    with _beside(out) as part, parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        async for page in pages(decisions, query, size=5_000):
            writer.write_table(pyarrow.table(_columns(page, schema.names), schema=schema))
            count += len(page)
    return count


def _columns(page: Sequence[JsonObject], names: Sequence[str]) -> dict[str, list[Any]]:
    columns = {name: [_value(name, one.get(name)) for one in page] for name in names}
    given = [one.get("feedback") or () for one in page]
    columns["score"] = [ratings[-1]["score"] if ratings else None for ratings in given]
    columns["record"] = [orjson.dumps(one).decode() for one in page]
    return columns


def _value(name: str, value: Any) -> Any:
    """The value as its column takes it; what has another type is in `record` only."""
    if name in TEXTS:
        return value if isinstance(value, str) else None
    if name in FLAGS:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if name in WHOLE:
        return int(value) if abs(value) < 2**63 else None
    return float(value)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A name in the same folder, which becomes `out` if all goes well.

    Raises:
        ClickException: the file cannot be written.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.touch(mode=0o600)
        try:
            yield part
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error}") from error
