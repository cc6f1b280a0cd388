"""Are counts exact? `python -m bench.experiment [--requests 50000] [--gateways 2] [--workers 4] [--outages 0]`.

Run by hand. Sends requests of as many sessions through an experiment of three variants, over gateways that share
one Redis; compares the counters with the answers' headers, and says how far the split is from the configured one.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click

from tests.integration.experimenting import SESSION, Client, figures, group, results, variant_of
from tests.integration.fleet import Fleet, fleet
from tests.integration.helpers import write
from tests.support.processes import start_simulator

NAME = "split"
WEIGHTS = {"control": 5.0, "second": 3.0, "third": 2.0}
CLIENTS = 8
FRESH_AFTER = 100
"""Requests on one connection: all workers get their share."""
PATIENCE_S = 30.0


@click.command()
@click.option("--requests", type=click.IntRange(min=100), default=50_000, show_default=True)
@click.option("--gateways", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--outages", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON file.")
def main(requests: int, gateways: int, workers: int, outages: int, out: Path | None) -> None:
    """Measure, print, write; ends with 1 where counters and answers differ."""
    with contextlib.ExitStack() as stack:
        sim = stack.enter_context(start_simulator())
        variants = {name: {"weight": weight} for name, weight in WEIGHTS.items()}
        experiment = {"models": ["pool"], "subject": ["session"], "variants": variants}
        section = {"experiments": {NAME: experiment}, "affinity": {"enabled": False}}
        config = {"model_list": [group("pool", sim)], "routeiq": section}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = write(folder, config)
        made = stack.enter_context(fleet(path, "redis", gateways=gateways, workers=workers))
        found = measure(made, requests, outages)
    print(json.dumps(found, indent=1))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if found["exact"] and found["within"] else 1)


def measure(made: Fleet, requests: int, outages: int) -> dict[str, Any]:
    """Send, count, compare."""
    begun = time.monotonic()
    stopping = threading.Thread(target=interrupt, args=(made, outages))
    stopping.start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = pool.map(lambda number: send(made, number, requests), range(CLIENTS))
        told = sum(parts, Counter[str]())
    took_s = time.monotonic() - begun
    stopping.join()
    failed = told.pop("failed", 0)
    counted, late_s = settled(made, told)
    total = sum(WEIGHTS.values())
    split = {
        name: {
            "answers": told[name],
            "counted": counted[name],
            "share": told[name] / told.total(),
            "sigmas": sigmas(told[name], told.total(), weight / total),
        }
        for name, weight in WEIGHTS.items()
    }
    return {
        "requests": requests,
        "failed": failed,
        "gateways": len(made.gateways),
        "workers": len(made.lines),
        "redis_outages": outages,
        "per_second": round(requests / took_s, 1),
        "exact": counted == told and told.total() == requests,
        "counted_after_s": round(late_s, 3),
        "within": all(abs(one["sigmas"]) <= 4.0 for one in split.values()),
        "variants": split,
        "split": results(made.gateways[0], NAME)["split"],
    }


def send(made: Fleet, client: int, requests: int) -> Counter[str]:
    """One client's part; how many answers named which variant."""
    told: Counter[str] = Counter()
    mine = Client(made.gateways[client % len(made.gateways)].url, FRESH_AFTER)
    with contextlib.closing(mine):
        for number in range(client, requests, CLIENTS):
            answer = mine.post("pool", "Say hello.", {SESSION: f"s{number}"})
            told[str(variant_of(answer))] += 1
            told["failed"] += answer.status != 200
    return told


def interrupt(made: Fleet, outages: int) -> None:
    """Stop Redis for three seconds, every ten."""
    for _ in range(outages):
        time.sleep(7.0)
        if made.redis is not None:
            made.redis.kill()
            time.sleep(3.0)
            made.redis.start()


def settled(made: Fleet, told: Counter[str]) -> tuple[Counter[str], float]:
    """The counters once they equal the answers, or after a while; and how long that took."""
    begun = time.monotonic()
    while True:
        counted = figures(results(made.gateways[-1], NAME), "requests")
        passed = time.monotonic() - begun
        if counted == told or passed > PATIENCE_S:
            return counted, passed
        time.sleep(0.01)


def sigmas(count: int, total: int, share: float) -> float:
    """How many standard deviations a count is from what its share lets expect."""
    return round((count - total * share) / math.sqrt(total * share * (1 - share)), 2)


if __name__ == "__main__":
    main()
