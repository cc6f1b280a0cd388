"""LLMRouterBench, Avengers-Pro, EmbedLLM, RoRF and NVIDIA's router data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from routeiq.training.records import Record

from .base import (
    BadRow,
    Cell,
    Format,
    Item,
    Row,
    identifier,
    last_question,
    mapping,
    number,
    numbers,
    text,
)

_LAYOUT = 3
"""Folders above a run of LLMRouterBench: dataset, split, model."""


def _llmrouterbench(row: Row) -> Iterable[Item]:
    """`results/bench/<dataset>/<split>/<model>/<time>.json`; the header's own names come first."""
    folders = Path(row.file).parts[-_LAYOUT - 1 : -1]
    if len(folders) < _LAYOUT:
        raise BadRow("the file must lie in <dataset>/<split>/<model>/")
    dataset = identifier(row.header, "dataset_name", default=folders[0])
    index = identifier(row.values, "index", default=str(row.number))
    yield Cell(
        key=f"{dataset}\n{folders[1]}\n{index}",
        id=f"{dataset}-{folders[1]}-{index}",
        text=last_question(text(row.values, "origin_query", "prompt")),
        task=dataset,
        model=identifier(row.header, "model_name", default=folders[2]),
        score=number(row.values.get("score"), "score"),
        cost=number(row.values.get("cost"), "cost"),
        input_tokens=number(row.values.get("prompt_tokens"), "prompt_tokens"),
        output_tokens=number(row.values.get("completion_tokens"), "completion_tokens"),
    )


def _avengers(row: Row) -> Iterable[Item]:
    costs = {}
    usages = row.values.get("usages")
    for model, usage in usages.items() if isinstance(usages, Mapping) else ():
        cost = (
            number(usage.get("cost"), f"usages.{model}.cost")
            if isinstance(usage, Mapping)
            else None
        )
        if cost is not None:
            costs[model] = cost
    dataset = identifier(row.values, "dataset", default="")
    index = identifier(row.values, "index", default=str(row.number))
    yield Record(
        id=f"{dataset}-{index}",
        text=text(row.values, "query"),
        scores=numbers(mapping(row.values, "records"), "records"),
        costs=costs,
        task=dataset,
    )


def _embedllm(row: Row) -> Iterable[Item]:
    prompt = identifier(row.values, "prompt_id", default=str(row.number))
    yield Cell(
        key=prompt,
        id=prompt,
        text=text(row.values, "prompt"),
        task=identifier(row.values, "category", "category_id", default=""),
        model=identifier(row.values, "model_name", "model_id", default=""),
        score=number(row.values.get("label"), "label"),
    )


_SCORE = "/score"


def _rorf(row: Row) -> Iterable[Item]:
    scores = {}
    for name, given in row.values.items():
        if name.endswith(_SCORE):
            score = number(given, name)
            if score is not None:
                scores[name.removesuffix(_SCORE)] = score
    yield Record(
        id=identifier(row.values, "id", default=row.place),
        text=text(row.values, "Input"),
        scores=scores,
    )


def _nvidia(row: Row) -> Iterable[Item]:
    yield Record(
        id=identifier(row.values, "idx", "id", default=row.place),
        text=text(row.values, "prompt", "question"),
        scores=numbers(mapping(row.values, "model_scores"), "model_scores"),
        task=identifier(row.values, "task", "category", default=""),
    )


LLMROUTERBENCH = Format(
    name="llmrouterbench",
    title="LLMRouterBench results tree",
    matches=lambda values: {"origin_query", "score"} <= values.keys(),
    convert=_llmrouterbench,
)
AVENGERS = Format(
    name="avengers-pro",
    title="Avengers-Pro: query, records, usages",
    matches=lambda values: "query" in values and isinstance(values.get("records"), Mapping),
    convert=_avengers,
)
EMBEDLLM = Format(
    name="embedllm",
    title="EmbedLLM: prompt_id, model_id, label, prompt",
    matches=lambda values: {"prompt_id", "model_id", "label", "prompt"} <= values.keys(),
    convert=_embedllm,
)
RORF = Format(
    name="rorf",
    title="RoRF: Input, <model>/score",
    matches=lambda values: "Input" in values and any(name.endswith(_SCORE) for name in values),
    convert=_rorf,
)
NVIDIA = Format(
    name="nvidia",
    title="NVIDIA LLM router: prompt, model_scores",
    matches=lambda values: "model_scores" in values,
    convert=_nvidia,
)
