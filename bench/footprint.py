"""What learned routing adds to a gateway's memory: `python -m bench.footprint [--out FILE]`.

Two gateways, one on `prior` and one on features plus a `hybrid` artifact, each as `routeiq serve` starts it: the
runtime is built once in the parent, its objects are frozen for the collector, and the workers are forked and build
theirs. Each worker decides on 2,000 prompts of 200 tokens of its own. Then the kernel says (`smaps_rollup`) which
pages are one worker's own and which are shared, and what the second gateway has more than the first is reported.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from routeiq.config.environment import one_blas_thread

if TYPE_CHECKING:
    from routeiq.types import Deployment

WORKERS = 4
REQUESTS = 2_000
TOKENS = 200
SHARED_MB, PRIVATE_MB = 25.0, 5.0
KIND = "hybrid"
CONFIGURATION = "config.yaml"


def main(given: Sequence[str] | None = None) -> None:
    """Measure both gateways in processes of their own, compare, write."""
    arguments = argparse.ArgumentParser(prog="python -m bench.footprint")
    arguments.add_argument("--strategy", default=KIND)
    arguments.add_argument("--workers", type=int, default=WORKERS)
    arguments.add_argument("--requests", type=int, default=REQUESTS)
    arguments.add_argument("--out", type=Path, metavar="FILE")
    arguments.add_argument("--child", nargs=2, metavar=("STRATEGY", "STORE"), help="internal")
    options = arguments.parse_args(sys.argv[1:] if given is None else given)
    one_blas_thread(os.environ)  # before NumPy is loaded
    if options.child is not None:
        name, store = options.child
        print(json.dumps(gateway(name, store, options.workers)))
        return
    result = measure(options.strategy, options.workers, options.requests)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["added"], indent=1))
    missed = verdict(result)
    print("\n".join(missed) or "every bound is kept")
    sys.exit(1 if missed else 0)


def measure(kind: str, workers: int, requests: int) -> dict[str, Any]:
    """Both gateways, one after the other."""
    from routeiq.artifacts.store import ArtifactStore

    from . import kernel, made_up
    from .strategy_sets import today, versions

    with TemporaryDirectory() as folder:
        artifact = made_up.artifact(kind, made_up.table(), Path(folder) / "trained")
        size = sum(each.stat().st_size for each in artifact.rglob("*") if each.is_file())
        store = Path(folder) / "store"
        active = ArtifactStore(store)
        active.promote(kind, active.stage(artifact))
        write_configuration(store.parent, made_up.deployments())
        for number in range(workers):
            prompts(store, number).write_text(
                "\n".join(made_up.texts(requests, TOKENS, seed=100 + number)), encoding="utf-8"
            )
        found = {name: child(name, store, workers=workers) for name in ("prior", kind)}
    return {
        "date": today(),
        "command": "python -m bench.footprint --out docs/reference/strategies/footprint.json",
        "machine": kernel.machine(),
        "versions": versions(),
        "strategy": kind,
        "workers": workers,
        "requests": requests,
        "artifact_mb": round(size / 2**20, 2),
        "gateways": found,
        "added": added(found["prior"], found[kind]),
    }


def child(name: str, store: Path, *, workers: int) -> dict[str, Any]:
    """The figures of one gateway, from a fresh process."""
    command = [sys.executable, "-m", "bench.footprint", "--child", name, str(store)]
    command += ["--workers", str(workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def gateway(name: str, store: str, workers: int) -> dict[str, Any]:
    """Build as `serve` does, fork as the supervisor does, let every worker decide, read the kernel's books."""
    from routeiq.config.loader import load_config
    from routeiq.gateway.runtime import build

    from . import kernel

    path = str(Path(store).parent / CONFIGURATION)
    config = load_config(path, {"ROUTEIQ_MODELS_PATH": store, "ROUTEIQ_STRATEGY": name})
    build(config, insecure=True)
    gc.collect()
    gc.freeze()
    pids, ready = [], []
    for number in range(workers):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            worker(config, prompts(Path(store), number), writer)
        os.close(writer)
        pids.append(pid)
        ready.append(reader)
    try:
        said = [os.read(reader, 64) for reader in ready]
        if any(word != name.encode() for word in said):
            raise RuntimeError(f"workers decided by {said}, not by {name!r}")
        each = [kernel.memory(pid) for pid in pids]
        parent = kernel.memory(os.getpid())
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    shared = sum(one.pss_mb - one.uss_mb for one in (*each, parent))
    return {
        "private_mb": [round(one.uss_mb, 2) for one in each],
        "pss_mb": [round(one.pss_mb, 2) for one in each],
        "parent_private_mb": round(parent.uss_mb, 2),
        "shared_mb": round(shared, 2),
        "total_mb": round(sum(one.pss_mb for one in (*each, parent)), 2),
    }


def prompts(store: Path, number: int) -> Path:
    """The file with a worker's prompts, a line each: making them there would be part of its memory."""
    return store.parent / f"prompts-{number}.txt"


def write_configuration(folder: Path, deployments: Sequence[Deployment]) -> None:
    """Models at a provider that is never called."""
    entries = [
        {
            "model_name": one.group,
            "litellm_params": {
                "model": f"openai/{one.model}",
                "api_base": "http://127.0.0.1:9/v1",
                "api_key": "none",
            },
            "model_info": {
                "input_cost_per_token": one.facts.input_usd_per_token,
                "output_cost_per_token": one.facts.output_usd_per_token,
            },
        }
        for one in deployments
    ]
    # Four busy workers wait for processors: that must not count as a strategy's slowness.
    section = {"learning": {"time_budget_ms": 10_000.0}}
    document = {"model_list": entries, "routeiq": section}
    (folder / CONFIGURATION).write_text(json.dumps(document), encoding="utf-8")  # JSON is YAML


def worker(config: Any, texts: Path, writer: int) -> None:
    """What a worker does until it listens, then decisions, then nothing until it is killed."""
    code = 1
    try:
        asyncio.run(_decide(config, texts, writer))
        code = 0
    finally:
        os._exit(code)


async def _decide(config: Any, texts: Path, writer: int) -> None:
    from routeiq.gateway.runtime import build
    from routeiq.gateway.worker import settle_garbage_collector
    from routeiq.routing.request import parse_request

    runtime = build(config, insecure=True)
    settle_garbage_collector()
    strategy = ""
    with texts.open(encoding="utf-8") as lines:  # one after the other: a gateway keeps no prompts
        for line in lines:
            body = {"model": "auto", "messages": [{"role": "user", "content": line}]}
            request = parse_request("chat", body, id="made-up")
            strategy = runtime.router.decide(request).strategy
    said = strategy if not runtime.router.strategy_failures else "failures"
    os.write(writer, said.encode())
    signal.pause()


def added(base: dict[str, Any], more: dict[str, Any]) -> dict[str, float]:
    """What the second gateway has more: shared once, private in each worker (the mean and the largest)."""
    own = [b - a for a, b in zip(base["private_mb"], more["private_mb"], strict=True)]
    return {
        "shared_mb": round(more["shared_mb"] - base["shared_mb"], 2),
        "private_mb": round(sum(own) / len(own), 2),
        "worst_private_mb": round(max(own), 2),
        "total_mb": round(more["total_mb"] - base["total_mb"], 2),
    }


def verdict(result: dict[str, Any]) -> list[str]:
    """The bounds that were missed, in words."""
    found, missed = result["added"], []
    if found["shared_mb"] > SHARED_MB:
        missed.append(f"shared {found['shared_mb']:.1f} MB > {SHARED_MB:g}")
    if found["worst_private_mb"] > PRIVATE_MB:
        missed.append(f"private {found['worst_private_mb']:.1f} MB a worker > {PRIVATE_MB:g}")
    return missed


if __name__ == "__main__":
    main()
