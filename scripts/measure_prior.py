"""Measures how well the untrained `prior` orders prompts by whether a strong model is needed.

    python scripts/measure_prior.py --data routellm.jsonl.gz [--data ...] [--signs]

FILE is what `routeiq models train` reads: JSON lines with `route_text` (or `text`), `scores` {model: 0..1} and
`task`. RouteLLM's protocol (arXiv 2406.18665, evaluate.py): for ten shares of the traffic, the prompts that look
hardest go to the strong model; APGR is the area under the share of the quality gap that is recovered. Random is
0.5; prompts that look equally hard count with their mean. Every two models whose means are at least `--gap`
apart are a pair; rows are means over pairs, for each task and for the whole file, prompt length beside.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from routeiq.strategies import prior
from routeiq.types import RoutingRequest

BINS = 10
LEAST_ROWS = 30


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", action="append", type=Path, required=True, metavar="FILE")
    parser.add_argument("--gap", type=float, default=0.05, help="least difference of two means")
    parser.add_argument("--signs", action="store_true", help="also without each sign in turn")
    given = parser.parse_args()
    for path in given.data:
        report(path.name, list(rows(path)), gap=given.gap, by_sign=given.signs)


def report(name: str, records: Sequence[Mapping[str, Any]], *, gap: float, by_sign: bool) -> None:
    """One table: a line for each task and one for all."""
    tasks = sorted({record.get("task", "") for record in records})
    groups = [(task, [r for r in records if r.get("task", "") == task]) for task in tasks]
    if len(groups) > 1:
        groups.append(("all", list(records)))
    signs = list(prior.WEIGHTS) if by_sign else []
    print(f"\n{name}\n{'task':24}{'rows':>7}{'pairs':>7}{'length':>8}{'prior':>8}", end="")
    print("".join(f"{'-' + sign[:10]:>12}" for sign in signs))
    for task, group in groups:
        gains = [normalised for normalised in pair_gains(group, gap) if len(group) >= LEAST_ROWS]
        if gains:
            mean = [sum(column) / len(gains) for column in zip(*gains, strict=True)]
            texts = [text_of(record) for record in group]
            values = [apgr([len(text) for text in texts], mean), apgr(difficulties(texts), mean)]
            values += [apgr(difficulties(texts, without=sign), mean) for sign in signs]
            shown = [f"{v:{12 if i > 1 else 8}.3f}" for i, v in enumerate(values)]
            print(f"{task[:23]:24}{len(group):7}{len(gains):7}{''.join(shown)}")


def pair_gains(records: Sequence[Mapping[str, Any]], gap: float) -> Iterator[list[float]]:
    """For each strong/weak pair what the strong model adds on each row, in units of its mean."""
    models = [m for m in records[0]["scores"] if all(m in r["scores"] for r in records)]
    means = {m: sum(r["scores"][m] for r in records) / len(records) for m in models}
    for weak in models:
        for strong in models:
            total = means[strong] - means[weak]
            if total >= gap:
                yield [(r["scores"][strong] - r["scores"][weak]) / total for r in records]


def apgr(difficulty: Sequence[float], gains: Sequence[float]) -> float:
    """Average performance gap recovered, for gains whose mean is 1."""
    order = sorted(range(len(gains)), key=difficulty.__getitem__, reverse=True)
    recovered = [0.0]
    for _, same in groupby(order, key=difficulty.__getitem__):
        members = list(same)
        mean = sum(gains[index] for index in members) / len(members)
        for _ in members:
            recovered.append(recovered[-1] + mean / len(gains))
    places = [round(step * len(gains) / BINS) for step in range(BINS + 1)]
    points = [recovered[place] for place in places]
    widths = [(after - before) / len(gains) for before, after in pairwise(places)]
    return sum(w * (points[i] + points[i + 1]) / 2.0 for i, w in enumerate(widths))


def difficulties(texts: Sequence[str], *, without: str | None = None) -> list[float]:
    """What `prior` thinks of the texts, one of its signs left out."""
    weights = prior.WEIGHTS
    left_out = 0.0 if without is None else weights[without]
    found = []
    for text in texts:
        request = RoutingRequest(id="", operation="chat", model="auto", text=text)
        value = prior.difficulty(request)
        if left_out:
            value = sum(part for sign, part in prior.parts(request) if sign != without)
        found.append(min(1.0, max(0.0, value)))
    return found


def text_of(record: Mapping[str, Any]) -> str:
    """What a router sees of a row."""
    return str(record.get("route_text") or record.get("text") or record.get("prompt") or "")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines, gzipped or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield json.loads(line)


if __name__ == "__main__":
    main()
