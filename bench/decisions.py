"""What a decision costs: `python -m bench.decisions [--strategies NAME ...] [--out FILE]`.

`Router.decide` on ten candidates for prompts of 200 tokens of which none comes twice, so that no cache of whole
prompts helps; and its parts. Times are the thread's CPU time: what other processes do does not count, but for the
caches that they displace, which is why the best of several rounds is given. The garbage collector is set as in a
worker, and whatever it does counts. Learned strategies run from artifacts that are trained on made-up data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from routeiq.config.environment import one_blas_thread
from routeiq.registry import BUILTIN_STRATEGIES

if TYPE_CHECKING:
    from routeiq.routing.router import Router
    from routeiq.types import RoutingRequest

TOKENS = 200
CANDIDATES = 10
ROUNDS = 5
WARM = 300
PARTS = ("features", "score", "decide")
KNN_LARGE = "knn, 100,000 rows"
FEATURES_MS = 0.10
P50_MS, P99_MS = 0.20, 0.5
KNN_LARGE_MS = 0.5
LAG_P99_MS = 2.0
NEVER_SUSPENDED = {"time_budget_ms": 10_000.0}
"""What is measured is the strategy, not the fallback that a busy machine may bring about."""
LEARNED = (
    "knn", "cluster", "svm", "logistic", "elo", "mlp", "mf", "irt", "hybrid", "adaptive", "linucb",
)  # fmt: skip

Figures = dict[str, float]


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    arguments = argparse.ArgumentParser(prog="python -m bench.decisions")
    arguments.add_argument(
        "--strategies", nargs="+", default=[*BUILTIN_STRATEGIES, KNN_LARGE], metavar="NAME"
    )
    arguments.add_argument("--requests", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--out", type=Path, metavar="FILE")
    options = arguments.parse_args(sys.argv[1:] if given is None else given)
    one_blas_thread(os.environ)  # before NumPy is loaded
    with TemporaryDirectory() as folder:
        result = measure(
            options.strategies, Path(folder), requests=options.requests, rounds=options.rounds
        )
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    missed = verdict(result)
    print("\n".join(missed) or "every bound is kept")
    sys.exit(1 if missed else 0)


def measure(names: Sequence[str], folder: Path, *, requests: int, rounds: int) -> dict[str, Any]:
    """All strategies; artifacts go into `folder`."""
    from routeiq.gateway.worker import settle_garbage_collector

    from . import kernel, made_up
    from .strategy_sets import today, versions

    base = made_up.table() if any(name in (*LEARNED, KNN_LARGE) for name in names) else None
    routers = {}
    for name in names:
        artifact = None
        if base is not None and name == KNN_LARGE:
            artifact = made_up.artifact("knn", made_up.many_rows(base), folder / "large")
        elif base is not None and name in LEARNED:
            artifact = made_up.artifact(name, base, folder)
        routers[name] = router_for(name.partition(",")[0], artifact, folder)
    prompts = list(made_up.stream(requests + WARM, TOKENS, seed=1))
    settle_garbage_collector()
    found: dict[str, Any] = {}
    for name, router in routers.items():
        runs = [one_round(router, prompts) for _ in range(rounds)]
        found[name] = best(runs)
        print(shown(name, found[name]), flush=True)
    return {
        "date": today(),
        "command": "python -m bench.decisions --out docs/reference/strategies/decisions.json",
        "machine": kernel.machine(),
        "versions": versions(),
        "load_average": round(os.getloadavg()[0], 2),
        "requests": requests,
        "rounds": rounds,
        "tokens": TOKENS,
        "candidates": CANDIDATES,
        "strategies": found,
        "loop_lag": asyncio.run(loop_lag(routers, prompts)),
    }


def router_for(name: str, artifact: Path | None, folder: Path) -> Router:
    """A router whose `auto` chooses among ten models by this strategy."""
    from routeiq.config.model import Config, RouterConfig
    from routeiq.config.section import RouteIQSection
    from routeiq.config.settings import Settings
    from routeiq.ports import SystemClock
    from routeiq.resilience.breaker import Breakers
    from routeiq.routing.catalog import Catalog
    from routeiq.routing.load import LoadTracker
    from routeiq.routing.router import Router
    from routeiq.types import ModelFacts

    from . import made_up

    choice: Any = name
    if artifact is not None:
        choice = {"name": name, "options": {"artifact": str(artifact)}}
    clock = SystemClock()
    config = Config(
        settings=Settings(models_path=str(folder / "store")),
        router=RouterConfig(),
        routeiq=RouteIQSection.model_validate({"strategy": choice, "learning": NEVER_SUSPENDED}),
    )
    catalog = Catalog(
        made_up.deployments(CANDIDATES), config.router, config.routeiq, lambda *_: ModelFacts()
    )
    return Router(
        catalog=catalog,
        config=config,
        load=LoadTracker(clock),
        breakers=Breakers(failure_threshold=5, open_s=30.0, window_s=60.0, clock=clock),
        clock=clock,
    )


def one_round(router: Router, requests: Sequence[RoutingRequest]) -> dict[str, list[float]]:
    """CPU milliseconds of each request: to featurise, to score and to decide, one after the other.

    Each part sees the requests in the same order; between two times that a request comes lie more others than
    any cache holds.
    """
    strategy = router._strategies.get(router._default)
    candidates = candidates_of(router, requests[0])
    loaded = getattr(strategy, "loaded", None)
    steps: dict[str, Callable[[RoutingRequest], object]] = {}
    if loaded is not None:
        steps["features"] = loaded.features.one
    steps["score"] = lambda request: strategy.score(request, candidates)
    steps["decide"] = router.decide
    return {part: timed(step, requests) for part, step in steps.items()}


def candidates_of(router: Router, request: RoutingRequest) -> Any:
    """The candidates that the strategy scores."""
    from routeiq.types import Candidate

    ranking = router.decide(request).ranking
    return [Candidate(deployment=one.deployment, cost_usd=one.cost_usd) for one in ranking]


def timed(
    step: Callable[[RoutingRequest], object], requests: Sequence[RoutingRequest]
) -> list[float]:
    """CPU milliseconds of each call after the first few."""
    clock, found = time.thread_time_ns, []
    for request in requests:
        began = clock()
        step(request)
        found.append((clock() - began) / 1e6)
    return found[WARM:]


def best(runs: Sequence[dict[str, list[float]]]) -> dict[str, Figures]:
    """Of each part the median and the 99th percentile, each of the round where it is lowest.

    `worst_round_p99_ms` is of the round where it is highest; for `p99_of_best_ms` each prompt counts with its
    quickest round, which leaves what the prompt itself costs.
    """
    found = {}
    for part in PARTS:
        if part not in runs[0]:
            continue
        rounds = [run[part] for run in runs]
        tails = [quantile(times, 0.99) for times in rounds]
        quickest = [min(times) for times in zip(*rounds, strict=True)]
        found[part] = {
            "p50_ms": round(min(quantile(times, 0.50) for times in rounds), 4),
            "p99_ms": round(min(tails), 4),
            "p99_of_best_ms": round(quantile(quickest, 0.99), 4),
            "worst_round_p99_ms": round(max(tails), 4),
        }
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """By order statistics."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def loop_lag(
    routers: dict[str, Router], requests: Sequence[RoutingRequest]
) -> dict[str, Figures]:
    """Milliseconds by which a ready callback waits while decisions follow one another on the loop.

    `cpu_p99_ms` is what this thread computed meanwhile; the wall clock also shows the work of others.
    """
    found = {}
    for name, router in routers.items():
        lags: list[float] = []
        busy: list[float] = []
        for request in requests:
            due, began = time.perf_counter(), time.thread_time()
            ready = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(ready.set_result, None)
            router.decide(request)
            await ready
            lags.append((time.perf_counter() - due) * 1e3)
            busy.append((time.thread_time() - began) * 1e3)
        found[name] = {
            "p50_ms": round(quantile(lags, 0.5), 4),
            "p99_ms": round(quantile(lags, 0.99), 4),
            "cpu_p99_ms": round(quantile(busy, 0.99), 4),
        }
    return found


def verdict(result: dict[str, Any]) -> list[str]:
    """The bounds that were missed, in words."""
    missed = []
    for name, parts in result["strategies"].items():
        large = name == KNN_LARGE
        if "features" in parts:
            missed += above(name, "features", "p50_ms", parts["features"], FEATURES_MS)
        missed += above(
            name, "decide", "p50_ms", parts["decide"], KNN_LARGE_MS if large else P50_MS
        )
        missed += above(name, "decide", "p99_ms", parts["decide"], P99_MS)
    for name, lag in result["loop_lag"].items():
        missed += above(name, "loop lag", "cpu_p99_ms", lag, LAG_P99_MS)
    return missed


def above(name: str, what: str, key: str, figures: Figures, bound: float) -> list[str]:
    """One line if a figure is above its bound."""
    value = figures[key]
    return [f"{name}: {what} {key} {value:.3f} > {bound:g}"] if value > bound else []


def shown(name: str, parts: dict[str, Figures]) -> str:
    """A strategy on a line."""
    cells = [f"{p} {v['p50_ms']:.3f} / {v['p99_ms']:.3f}" for p, v in parts.items()]
    return f"{name:20}" + "   ".join(cells)


if __name__ == "__main__":
    main()
