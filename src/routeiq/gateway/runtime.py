"""From a configuration to a running whole: the only place that knows concrete classes.

A `Runtime` is built completely beside whatever runs, then swapped in; anything wrong raises `ConfigError`
with every problem found, and what ran before goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from routeiq.access.authentication import Authenticator
from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.settings import SECRET_FIELDS
from routeiq.exceptions import ConfigError, Problem
from routeiq.experiments.live import Experiments
from routeiq.gateway.accounts import Accounts
from routeiq.gateway.activation import Activation
from routeiq.gateway.attempt import Attempts, CallSettings
from routeiq.gateway.background import Loop, kept
from routeiq.gateway.caller import Caller
from routeiq.gateway.feedback import Feedback
from routeiq.gateway.gate import Gate
from routeiq.gateway.learning import (
    FeatureOpener,
    syncer_of,
    verifier_of,
)
from routeiq.gateway.pipeline import Pipeline
from routeiq.gateway.process import Process, worker_name
from routeiq.gateway.wiring import authenticator_of, experiments_of, feedback_of
from routeiq.ports import Clock, SystemClock, Timeouts
from routeiq.providers.egress import AddressRules
from routeiq.providers.http_client import NativeHttpClient
from routeiq.providers.resolve import Resolved, resolve
from routeiq.resilience.admission import Admission
from routeiq.resilience.breaker import Breakers
from routeiq.resilience.retry import RetryBudget, RetryPolicy
from routeiq.routing.catalog import Catalog
from routeiq.routing.load import LoadTracker
from routeiq.routing.router import Router
from routeiq.state.bundle import memory_state
from routeiq.telemetry.access_log import AccessLog
from routeiq.telemetry.decision_file import DecisionFile
from routeiq.telemetry.decisions import DecisionLog

logger = logging.getLogger("routeiq.gateway")
FLUSH_S = 1.0
"""For the last counts to reach the store, and the last decisions the disk; neither must keep the process."""


@dataclass(slots=True, kw_only=True)
class Runtime:
    """Everything that one configuration became, in one worker; `process` is what outlives it."""

    config: Config
    process: Process
    resolved: Resolved
    catalog: Catalog
    router: Router
    authenticator: Authenticator
    gate: Gate
    experiments: Experiments
    pipeline: Pipeline
    client: NativeHttpClient
    feedback: Feedback
    activation: Activation
    decision_file: DecisionFile | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        """The process' clock."""
        return self.process.clock

    @property
    def breakers(self) -> Breakers:
        """The process' circuit breakers."""
        return self.process.breakers

    @property
    def load(self) -> LoadTracker:
        """The process' books on deployments."""
        return self.process.load

    @property
    def admission(self) -> Admission:
        """The process' count of requests."""
        return self.process.admission

    @property
    def decisions(self) -> DecisionLog:
        """The process' last decisions."""
        return self.process.decisions

    def start(self) -> None:
        """Begin what runs beside the requests. Call it on the event loop."""
        loops: tuple[Loop, ...] = (
            self.activation.run,
            partial(self.experiments.run, self.flush_s),
        )
        self.tasks = [asyncio.create_task(kept(one)) for one in loops]

    @property
    def flush_s(self) -> float:
        """How often counts are written."""
        return self.config.routeiq.state.flush_s

    async def experiment(self, body: dict[str, Any] | None) -> None:
        """Take over the control document on experiments, with the strategies that its variants name.

        Raises:
            ConfigError: one of them cannot be loaded.
        """
        # First: a request must not be put under a variant whose strategy is not there.
        await asyncio.to_thread(load_variants, self.experiments, self.router, body)
        self.experiments.swap(body)

    async def close(self) -> None:
        """End what `start` began, flush, and close what `build` opened."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.experiments.close()
        except TimeoutError:
            logger.error("counts of experiments are lost: the store hangs")
        self.router.close()
        await self.client.close()
        if self.decision_file is not None:
            await asyncio.to_thread(self.decision_file.flush, FLUSH_S)


def load_variants(experiments: Experiments, router: Router, body: dict[str, Any] | None) -> None:
    """Load the strategies that variants name: those declared, and those of the control document `body`. Blocks.

    Raises:
        ConfigError: one of them cannot be loaded.
    """
    for name in sorted(experiments.strategies(body)):
        router.ensure(name)


def check_resolved(config: Config) -> Resolved:
    """Resolve the deployments.

    Raises:
        ConfigError: a deployment cannot be used, with all that is wrong.
    """
    resolved = resolve(config)
    errors = [one for one in resolved.problems if one.severity == "error"]
    if errors:
        raise ConfigError(errors)
    if not resolved.upstreams:
        raise ConfigError(
            [
                Problem(
                    key="model_list",
                    message="no deployment that this gateway can serve.",
                    fix="Add one to model_list, or set a provider's variable such as OPENAI_API_KEY; "
                    "`routeiq demo` needs neither.",
                )
            ]
        )
    return resolved


def build(
    config: Config,
    *,
    process: Process | None = None,
    insecure: bool = False,
    access_log: AccessLog | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Runtime:
    """Build a runtime. Opens no socket. Without a `process` its stores are in memory.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    if process is None:
        clock = clock or SystemClock()
        process = Process(config, state=memory_state(clock), clock=clock, worker=worker_name())
    section = config.routeiq
    resolved = check_resolved(config)
    catalog = Catalog(resolved.deployments, config.router, section, resolved.facts_for)
    router = Router(
        catalog=catalog,
        config=config,
        load=process.load,
        breakers=process.breakers,
        clock=process.clock,
        rng=rng or random.Random(),
        verifier=verifier_of(config),
        open_features=FeatureOpener(config.settings.embedder_path),
    )
    experiments = experiments_of(config, process, catalog)
    load_variants(experiments, router, None)
    client = http_client(config, process.clock)
    calls = {one.id: call_settings(one, config) for one in config.deployments}
    attempts = Attempts(
        client=client,
        upstreams=resolved.upstreams,
        settings=calls,
        breakers=process.breakers,
        load=process.load,
        clock=process.clock,
    )
    caller = Caller(
        router=router,
        catalog=catalog,
        attempts=attempts,
        settings=calls,
        breakers=process.breakers,
        policy=RetryPolicy(
            base_s=section.resilience.backoff_base_s,
            max_s=section.resilience.backoff_max_s,
            minimum_s=config.router.retry_after_s,
        ),
        budget=RetryBudget(share=section.resilience.retry_budget, clock=process.clock),
        max_fallbacks=config.router.max_fallbacks,
        hedge_after_s=section.resilience.hedge_after_s,
    )
    authenticator = authenticator_of(config, process, insecure=insecure)
    gate = Gate(
        limiter=process.limiter,
        affinity=process.affinity,
        experiments=experiments,
        load=process.load,
        catalog=catalog,
    )
    decision_file = process.decision_files.of(config)
    feedback = feedback_of(process, authenticator, router, experiments, decision_file)
    accounts = Accounts(
        router=router,
        process=process,
        experiments=experiments,
        access_log=access_log if section.server.access_log else None,
        decision_file=decision_file,
    )
    pipeline = Pipeline(
        authenticator=authenticator,
        gate=gate,
        caller=caller,
        attempts=attempts,
        observe=accounts.observe,
        clock=process.clock,
        max_body_bytes=section.server.max_body_bytes,
    )
    return Runtime(
        config=config,
        process=process,
        resolved=resolved,
        catalog=catalog,
        router=router,
        authenticator=authenticator,
        gate=gate,
        experiments=experiments,
        pipeline=pipeline,
        client=client,
        feedback=feedback,
        activation=Activation(
            router=router,
            feedback=feedback,
            models_path=Path(config.settings.models_path),
            syncer=syncer_of(config, process.clock),
            poll_s=section.learning.poll_s,
            clock=process.clock,
        ),
        decision_file=decision_file,
    )


def http_client(config: Config, clock: Clock) -> NativeHttpClient:
    """The client that `routeiq.upstreams` describes.

    Raises:
        ConfigError: the proxy's URL or the bundle of authorities cannot be used.
    """
    upstreams = config.routeiq.upstreams
    try:
        return NativeHttpClient(
            max_connections=upstreams.max_connections,
            keepalive_s=upstreams.keepalive_s,
            rules=address_rules(config) if upstreams.check_addresses else None,
            ca_file=upstreams.ca_file,
            proxy_url=upstreams.proxy_url,
            no_proxy=upstreams.no_proxy,
            clock=clock,
        )
    except (ValueError, OSError) as error:
        problem = Problem(
            key="routeiq.upstreams",
            message=f"proxy_url or ca_file cannot be used: {error}.",
            fix="Write proxy_url like http://proxy:3128 and ca_file as the path of a PEM file.",
        )
        raise ConfigError([problem]) from error


def address_rules(config: Config) -> AddressRules:
    """The egress rules that the ROUTEIQ_SSRF_* settings say."""
    return AddressRules(
        allow_private=config.settings.ssrf_allow_private,
        hosts=config.settings.ssrf_host_allowlist,
        cidrs=config.settings.ssrf_cidr_allowlist,
    )


def call_settings(deployment: DeploymentConfig, config: Config) -> CallSettings:
    """Timeouts and retries of one deployment: its own, else the router's, else `routeiq.upstreams`.

    LiteLLM's `timeout` bounds a whole plain call; for a stream it bounds the wait for the first byte,
    because a stream that is alive may be long.
    """
    upstreams, router = config.routeiq.upstreams, config.router
    whole = deployment.timeout_s or router.timeout_s
    first = deployment.stream_timeout_s or router.stream_timeout_s or whole
    retries = deployment.max_retries
    return CallSettings(
        plain=Timeouts(
            connect_s=upstreams.connect_timeout_s,
            first_byte_s=whole or upstreams.first_byte_timeout_s,
            idle_s=upstreams.idle_timeout_s,
            total_s=whole or upstreams.total_timeout_s,
        ),
        stream=Timeouts(
            connect_s=upstreams.connect_timeout_s,
            first_byte_s=first or upstreams.first_byte_timeout_s,
            idle_s=upstreams.idle_timeout_s,
            total_s=upstreams.total_timeout_s,
        ),
        max_retries=router.num_retries if retries is None else retries,
        max_response_bytes=upstreams.max_response_bytes,
    )


def masked(config: Config) -> dict[str, Any]:
    """The effective configuration for people: no key, no token, no header value."""
    return {
        "source": config.source,
        "digest": config.digest,
        "settings": {
            **config.settings.model_dump(mode="json", exclude=set(SECRET_FIELDS)),
            "master_key": "set" if config.master_key else None,
            "admin_keys": len(config.settings.admin_keys),
            "artifact_hmac_key": "set" if config.settings.artifact_hmac_key else None,
        },
        "router": {
            name: getattr(config.router, name)
            for name in type(config.router).__dataclass_fields__
            if name != "hidden_aliases"
        },
        "routeiq": masked_section(config),
        "deployments": [
            {
                "id": one.id,
                "model_name": one.group,
                "model": one.model,
                "api_base": one.api_base,
                "api_key": "set" if one.api_key else "from the environment, or none",
                "tags": sorted(one.tags),
                "region": one.region,
            }
            for one in config.deployments
        ],
        "notes": [str(note) for note in config.notes],
    }


def masked_section(config: Config) -> dict[str, Any]:
    """The `routeiq:` section without the proxy's password and the declared keys' secrets."""
    section: dict[str, Any] = config.routeiq.model_dump(mode="json")
    for key in section["access"]["keys"].values():
        key["key"] = "set"
    proxy = section["upstreams"]["proxy_url"]
    if proxy:
        section["upstreams"]["proxy_url"] = "http://" + proxy.removeprefix("http://").split("@")[-1]
    return section
