"""What is measured: the simulator called directly, RouteIQ, a bare pass-through, and other gateways.

The others are started as their own documentation says for production, one process each, without a database.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import yaml

from .launch import ROOT, Lab, LaunchError, Process, Request, free_port, routeiq, wait_answer

MASTER_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"
CANDIDATES = 10
CHUNKS = 20
SPACING_MS = 20
SLOW_MS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A kind of call. `upstream` is the simulator's model with its steering after `#`."""

    name: str
    title: str
    upstream: str
    stream: bool = False
    only: frozenset[str] | None = None


PLAIN = Scenario(name="plain", title="chat completion", upstream="sim-small")
AUTO = Scenario(
    name="auto",
    title=f"`model: auto`, {CANDIDATES} candidates",
    upstream="sim-small",
    only=frozenset({"direct", "routeiq"}),
)
STREAM = Scenario(
    name="stream",
    title=f"stream, {CHUNKS} chunks at once",
    upstream=f"sim-small#chunks={CHUNKS}",
    stream=True,
)
SPREAD = Scenario(
    name="spread",
    title=f"stream, {CHUNKS} chunks 2 ms apart",
    upstream=f"sim-small#chunks={CHUNKS};chunk_ms=2",
    stream=True,
)
SPACED = Scenario(
    name="spaced",
    title=f"stream, {CHUNKS} chunks {SPACING_MS} ms apart",
    upstream=f"sim-small#chunks={CHUNKS};chunk_ms={SPACING_MS}",
    stream=True,
)
SLOW = Scenario(
    name="slow", title=f"{SLOW_MS} ms provider", upstream=f"sim-small#delay_ms={SLOW_MS}"
)
SCENARIOS = (PLAIN, AUTO, STREAM, SPREAD, SPACED, SLOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One column. `process` is `None` for the direct call.

    `slow` says that it answers so few requests a second that those under way at the end of a run matter: wrk
    would give them up, and their cost would be charged to the others. `fails` names what it cannot serve.
    """

    name: str
    title: str
    url: str
    model: Callable[[Scenario], str]
    headers: dict[str, str] = field(default_factory=dict)
    process: Process | None = None
    version: str = ""
    slow: bool = False
    fails: frozenset[str] = frozenset()

    def serves(self, scenario: Scenario) -> bool:
        """Whether the scenario makes sense here."""
        if scenario.name in self.fails:
            return False
        return scenario.only is None or self.name in scenario.only

    def request(self, scenario: Scenario) -> Request:
        """The request that a client would send for this scenario."""
        return chat(self.url, self.model(scenario), self.headers, stream=scenario.stream)


def chat(url: str, model: str, headers: dict[str, str], *, stream: bool = False) -> Request:
    """An ordinary, short chat request."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say hello in one short sentence, please."},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "max_tokens": 64}
    if stream:
        body["stream"] = True
    return Request(
        url=url, headers={"content-type": "application/json", **headers}, body=orjson.dumps(body)
    )


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"authorization": f"Bearer {key}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where things run: the lab, the processors, the simulator's base URL, the folder of other gateways."""

    lab: Lab
    gateway_cpus: Sequence[int]
    upstream: str
    others: Path


def start_simulator(lab: Lab, cpus: Sequence[int]) -> tuple[Process, str]:
    """The provider that everything talks to, and its base URL."""
    port = free_port()
    process = lab.start("simulator", routeiq("simulate", "--port", str(port)), cpus=cpus)
    base = f"http://127.0.0.1:{port}/v1"
    wait_answer(process, chat(f"{base}/chat/completions", PLAIN.upstream, {}))
    return process, base


def direct(site: Site) -> Target:
    """The simulator without anything in between."""
    return Target(
        name="direct",
        title="direct call",
        url=f"{site.upstream}/chat/completions",
        model=lambda scenario: scenario.upstream,
        headers=bearer(UPSTREAM_KEY),
    )


def routeiq_config(upstream: str) -> dict[str, object]:
    """Everything as by default; prices, so that costs are computed; ten candidates for `auto`."""

    def entry(name: str, model: str, facts: dict[str, object]) -> dict[str, object]:
        params = {"model": f"openai/{model}", "api_base": upstream, "api_key": UPSTREAM_KEY}
        return {"model_name": name, "litellm_params": params, "model_info": facts}

    priced: dict[str, object] = {
        "input_cost_per_token": 1.5e-7,
        "output_cost_per_token": 6e-7,
        "max_input_tokens": 128_000,
        "mode": "chat",
    }
    named = [entry(one.name, one.upstream, priced) for one in SCENARIOS if one is not AUTO]
    candidates = [
        entry(
            f"candidate-{number}",
            AUTO.upstream,
            {
                **priced,
                "input_cost_per_token": 1e-7 * (number + 1),
                "output_cost_per_token": 4e-7 * (number + 1),
                "supports_function_calling": True,
                "routeiq": {"quality": 0.5 + 0.045 * number},
            },
        )
        for number in range(CANDIDATES)
    ]
    groups = {"auto": {"models": ["candidate-*"]}}
    return {"model_list": [*named, *candidates], "routeiq": {"groups": groups}}


def start_routeiq(
    site: Site,
    *,
    workers: int = 1,
    command: Sequence[str] = (),
    env: dict[str, str] | None = None,
    pinned: bool = True,
) -> Target:
    """RouteIQ with a master key and its access log going to a file; `command` replaces `routeiq`."""
    port = free_port()
    config = site.lab.path / "routeiq.yaml"
    config.write_text(yaml.safe_dump(routeiq_config(site.upstream)))
    arguments = ["serve", "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--workers", str(workers)]
    process = site.lab.start(
        f"routeiq-{workers}",
        [*command, *arguments] if command else routeiq(*arguments),
        env={
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "DATABASE_URL": f"sqlite:///{site.lab.path}/routeiq-{port}.db",
            **(env or {}),
        },
        cpus=site.gateway_cpus if pinned else None,
    )
    return Target(
        name="routeiq",
        title="RouteIQ",
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.name,
        headers=bearer(MASTER_KEY),
        process=process,
    )


def start_bare(site: Site) -> Target:
    """The least that a Python gateway can do: tells this machine's speed from the product's."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.bare:app", "--app-dir", str(ROOT)]
    argv += ["--port", str(port), "--no-access-log", "--log-level", "error"]
    process = site.lab.start(
        "bare", argv, env={"BARE_UPSTREAM": site.upstream}, cpus=site.gateway_cpus
    )
    return Target(
        name="bare",
        title="bare pass-through",
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.upstream,
        headers=bearer(MASTER_KEY),
        process=process,
    )


def start_litellm(site: Site) -> Target:
    """LiteLLM's proxy: one worker, no database, master key, prices."""
    home = site.others / "litellm" / "bin"
    port = free_port()
    models = [
        {
            "model_name": one.name,
            "litellm_params": {
                "model": f"openai/{one.upstream}",
                "api_base": site.upstream,
                "api_key": UPSTREAM_KEY,
                "input_cost_per_token": 1.5e-7,
                "output_cost_per_token": 6e-7,
            },
        }
        for one in SCENARIOS
        if one is not AUTO
    ]
    config = site.lab.path / "litellm.yaml"
    config.write_text(
        yaml.safe_dump({"model_list": models, "general_settings": {"master_key": MASTER_KEY}})
    )
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    env |= {"LITELLM_MODE": "PRODUCTION", "PATH": f"{home}{os.pathsep}{os.environ['PATH']}"}
    argv = [str(home / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--num_workers", "1"]
    return Target(
        name="litellm",
        title="LiteLLM proxy",
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.name,
        headers=bearer(MASTER_KEY),
        process=site.lab.start("litellm", argv, env=env, cpus=site.gateway_cpus),
        version=installed_version(home / "python", "litellm"),
        slow=True,
    )


def start_portkey(site: Site) -> Target:
    """Portkey's gateway on Node."""
    package = site.others / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    port = free_port()
    argv = ["node", str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    env = {"TRUSTED_CUSTOM_HOSTS": "localhost,127.0.0.1", "NODE_ENV": "production"}
    return Target(
        name="portkey",
        title="Portkey",
        url=f"http://127.0.0.1:{port}/v1/chat/completions",
        model=lambda scenario: scenario.upstream,
        headers={
            **bearer(UPSTREAM_KEY),
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": site.upstream,
        },
        process=site.lab.start("portkey", argv, env=env, cpus=site.gateway_cpus),
        version=str(orjson.loads((package / "package.json").read_bytes())["version"]),
    )


_TENSORZERO = """
import sys, time, tensorzero
gateway = tensorzero._start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None,
                                         valkey_url=None, async_setup=False)
print("listening on", gateway.base_url, flush=True)
while True:
    time.sleep(3600)
"""


def start_tensorzero(site: Site) -> Target:
    """The Rust gateway inside TensorZero's Python wheel, observability off."""
    python = site.others / "tensorzero" / "bin" / "python"
    text = "[gateway]\nobservability.enabled = false\n"
    for one in SCENARIOS:
        text += f'\n[models.{one.name}]\nrouting = ["up"]\n[models.{one.name}.providers.up]\ntype = "openai"\n'
        text += f'model_name = "{one.upstream}"\napi_base = "{site.upstream}"\napi_key_location = "none"\n'
    config = site.lab.path / "tensorzero.toml"
    config.write_text(text)
    argv = [str(python), "-c", _TENSORZERO, str(config)]
    process = site.lab.start("tensorzero", argv, cpus=site.gateway_cpus)
    return Target(
        name="tensorzero",
        title="TensorZero",
        url=f"{printed_url(process)}/openai/v1/chat/completions",
        model=lambda scenario: f"tensorzero::model_name::{scenario.name}",
        process=process,
        version=installed_version(python, "tensorzero"),
    )


def printed_url(process: Process, timeout_s: float = 60.0) -> str:
    """The address that a process says it listens on.

    Raises:
        LaunchError: it says none.
    """
    began = time.monotonic()
    while process.popen.poll() is None and time.monotonic() - began < timeout_s:
        found = re.search(r"listening on (http://[\w.:]+)", process.log.read_text())
        if found is not None:
            return found[1]
        time.sleep(0.01)
    raise LaunchError(f"{process.name} printed no address. End of its log:\n{process.tail()}")


def installed_version(python: Path, package: str) -> str:
    """The version of a package in another environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.check_output([str(python), "-c", code], text=True).strip()


STARTERS: dict[str, Callable[[Site], Target]] = {
    "bare": start_bare,
    "litellm": start_litellm,
    "portkey": start_portkey,
    "tensorzero": start_tensorzero,
}
INSTALLED: dict[str, str] = {
    "litellm": "litellm/bin/litellm",
    "portkey": "portkey/node_modules/@portkey-ai/gateway/package.json",
    "tensorzero": "tensorzero/bin/python",
}


def installed(folder: Path) -> list[str]:
    """The other gateways that are installed in a folder."""
    return [name for name, path in INSTALLED.items() if (folder / path).exists()]
