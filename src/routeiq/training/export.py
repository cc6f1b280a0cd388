"""Data for other routers: RouteIQ's plain lines, LLMRouter's files, RouterArena's submission."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import orjson

from .errors import DataError, DataProblem
from .formats.base import BadRow, Values, identifier, mapping, numbers, text
from .formats.joining import Prices
from .records import Preference, Record

_MILLION = 1e6
_LINE = orjson.OPT_APPEND_NEWLINE


def export_plain(source: Iterable[Record | Preference], path: Path) -> int:
    """Write `{id, task, route_text, scores, costs, ...}` lines; returns their number.

    Preferences become `{id, prompt, model_a, model_b, winner}` lines. A name that ends in .gz is compressed.

    Raises:
        DataError: preferences and records are mixed, which one file cannot hold, or the file cannot be written.
    """
    rows = 0
    kind: type[Record] | type[Preference] | None = None
    with _writing(path) as file:
        for item in source:
            if kind is None:
                kind = type(item)
            if not isinstance(item, kind):
                raise DataError("records and preferences cannot be written to one file")
            line = plain(item) if isinstance(item, Record) else _battle(item)
            file.write(orjson.dumps(line, option=_LINE))
            rows += 1
    return rows


def plain(record: Record) -> dict[str, Any]:
    """A record in the plain form; what is not known is left out."""
    line: dict[str, Any] = {
        "id": record.id,
        "task": record.task,
        "route_text": record.text,
        "scores": dict(record.scores),
    }
    for name, values in (
        ("costs", record.costs),
        ("latency", record.latencies),
        ("out_tokens", record.output_tokens),
    ):
        if values:
            line[name] = dict(values)
    if record.split is not None:
        line["split"] = record.split
    return line


def export_llmrouter(
    source: Iterable[Record | Preference], folder: Path, *, prices: Prices | None = None
) -> tuple[int, int]:
    """Write LLMRouter's `query_data.jsonl`, `routing_data.jsonl` and `llm_candidates.json` into a folder.

    LLMRouter has no place for costs per request: they are in `cost` beside its own fields. `ground_truth`,
    `metric` and `choices` are null, because only their outcome is known here. `prices` are USD per prompt and
    answer token; where a model has none, its prices are null and LLMRouter needs them filled in.

    Returns:
        The numbers of queries and of routing rows.

    Raises:
        DataError: the data holds preferences, for which LLMRouter has no form.
    """
    folder.mkdir(parents=True, exist_ok=True)
    queries = rows = 0
    models: dict[str, None] = {}
    with (
        _writing(folder / "query_data.jsonl") as query_file,
        _writing(folder / "routing_data.jsonl") as routing_file,
    ):
        for item in source:
            if not isinstance(item, Record):
                raise DataError("LLMRouter's routing data has no form for preferences")
            query_file.write(orjson.dumps(_query(item), option=_LINE))
            for model in item.scores:
                models.setdefault(model)
                routing_file.write(orjson.dumps(_routing(item, model, queries), option=_LINE))
                rows += 1
            queries += 1
    candidates = {model: _candidate(model, (prices or {}).get(model)) for model in models}
    with _writing(folder / "llm_candidates.json") as file:
        file.write(orjson.dumps(candidates, option=orjson.OPT_INDENT_2 | _LINE))
    return queries, rows


def export_routerarena(
    questions: Iterable[tuple[str, str]], scores: Mapping[str, Mapping[str, float]], path: Path
) -> int:
    """Write a RouterArena prediction file: for each question the model with the highest score.

    Args:
        questions: global index and prompt of every query, see `question`.
        scores: per global index the score of every model, see `scored`.
        path: the JSON file to write.

    Raises:
        DataError: a question has no scores.
    """
    predictions = []
    for index, prompt in questions:
        given = scores.get(index)
        if not given:
            raise DataError(f"there are no scores for question {index!r}")
        predictions.append(
            {
                "global index": index,
                "prompt": prompt,
                "prediction": max(sorted(given), key=given.__getitem__),
                "generated_result": None,
                "cost": None,
                "accuracy": None,
            }
        )
    with _writing(path) as file:
        file.write(orjson.dumps(predictions, option=orjson.OPT_INDENT_2 | _LINE))
    return len(predictions)


def question(values: Values) -> tuple[str, str]:
    """The global index and the prompt of a row of RouterArena's query set (or `id` and `route_text`).

    Raises:
        BadRow: one of them is missing.
    """
    index = identifier(values, "global index", "global_index", "id", default="")
    if not index:
        raise BadRow("there is no `global index`")
    return index, text(values, "prompt_formatted", "prompt", "route_text")


def scored(values: Values) -> tuple[str, dict[str, float]]:
    """The id and the scores of a line that `routeiq models score` wrote.

    Raises:
        BadRow: one of them is missing.
    """
    index = identifier(values, "id", default="")
    if not index:
        raise BadRow("there is no `id`")
    return index, numbers(mapping(values, "scores"), "scores")


def _query(record: Record) -> dict[str, Any]:
    return {
        "task_name": record.task,
        "query": record.text,
        "ground_truth": None,
        "metric": None,
        "choices": None,
        "task_id": record.id,
    }


def _routing(record: Record, model: str, number: int) -> dict[str, Any]:
    written = record.output_tokens.get(model)
    return {
        **_query(record),
        "gt": None,
        "embedding_id": number,
        "model_name": model,
        "formatted_query": record.text,
        "response": None,
        "token_num": written,
        "prompt_tokens": None,
        "completion_tokens": written,
        "response_time": record.latencies.get(model),
        "performance": record.scores[model],
        "cost": record.costs.get(model),
    }


def _candidate(model: str, price: tuple[float, float] | None) -> dict[str, Any]:
    per_input, per_output = (None, None) if price is None else price
    return {
        "size": "",
        "feature": "",
        "input_price": None if per_input is None else per_input * _MILLION,
        "output_price": None if per_output is None else per_output * _MILLION,
        "model": model,
        "service": "",
    }


def _battle(item: Preference) -> dict[str, Any]:
    winner = {"a": "model_a", "b": "model_b", "tie": "tie"}[item.winner]
    return {
        "id": item.id,
        "prompt": item.text,
        "model_a": item.model_a,
        "model_b": item.model_b,
        "winner": winner,
        "task": item.task,
    }


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """Write beside the target and rename, so that a half-written file is never taken for a whole one."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with _created(beside, path.suffix == ".gz") as file:
            yield file
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        problem = DataProblem(message=f"cannot be written: {reason}", file=str(path))
        raise DataError([problem]) from error
    finally:
        beside.unlink(missing_ok=True)


def _created(path: Path, compressed: bool) -> IO[bytes]:
    if compressed:
        # No time stamp: the same data gives the same file.
        return cast("IO[bytes]", gzip.GzipFile(path, "wb", mtime=0))
    return path.open("wb")
