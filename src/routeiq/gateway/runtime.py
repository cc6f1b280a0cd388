"""From a configuration to a running whole: the only place that knows concrete classes.

A `Runtime` is built completely beside whatever runs, then swapped in; anything wrong raises `ConfigError`
with every problem found, and what ran before goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routeiq.access.authentication import Authenticator
from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.settings import SECRET_FIELDS
from routeiq.exceptions import ConfigError, Problem
from routeiq.gateway.activation import Activation
from routeiq.gateway.attempt import Attempts, CallSettings
from routeiq.gateway.caller import Caller
from routeiq.gateway.feedback import Feedback
from routeiq.gateway.learning import (
    FeatureOpener,
    decision_file_of,
    syncer_of,
    verifier_of,
)
from routeiq.gateway.pipeline import Pipeline
from routeiq.gateway.trace import Trace
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
from routeiq.telemetry.access_log import AccessLog
from routeiq.telemetry.decision_file import DecisionFile, FeedbackTail
from routeiq.telemetry.decisions import DecisionLog, decision_record

logger = logging.getLogger("routeiq.gateway")
FLUSH_S = 1.0
"""For the last decisions to reach the disk; a stuck disk must not keep the process."""


@dataclass(slots=True, kw_only=True)
class Runtime:
    """Everything that one configuration became, in one worker."""

    config: Config
    resolved: Resolved
    catalog: Catalog
    router: Router
    breakers: Breakers
    load: LoadTracker
    admission: Admission
    authenticator: Authenticator
    pipeline: Pipeline
    decisions: DecisionLog
    client: NativeHttpClient
    clock: Clock
    feedback: Feedback
    activation: Activation
    decision_file: DecisionFile | None = None

    async def close(self) -> None:
        """Close what `build` opened."""
        self.router.close()
        await self.client.close()
        if self.decision_file is not None:
            await asyncio.to_thread(self.decision_file.flush, FLUSH_S)


class Accounts:
    """Turns a finished trace into everything that is reported about it."""

    def __init__(
        self,
        *,
        router: Router,
        decisions: DecisionLog,
        clock: Clock,
        access_log: AccessLog | None,
        decision_file: DecisionFile | None,
    ) -> None:
        self._router = router
        self._decisions = decisions
        self._clock = clock
        self._access_log = access_log
        self._decision_file = decision_file

    def observe(self, trace: Trace) -> None:
        """Tell the router, keep the record, write the line. Never raises: the answer has been sent."""
        decision, request = trace.decision, trace.request
        outcome = trace.outcome()
        if decision is None or request is None:
            if self._access_log is not None:
                self._access_log.write("request refused", self._refusal(trace))
            return
        self._router.observe(request, decision, outcome)
        record = decision_record(
            request,
            decision,
            outcome,
            key_alias=trace.principal.alias if trace.principal else "unknown",
            time_s=self._clock.wall(),
        )
        if trace.trace_id:
            record["trace_id"] = trace.trace_id
        self._decisions.add(record, request, decision, outcome)
        if self._decision_file is not None:
            self._decision_file.add(record, request, decision)
        if self._access_log is not None:
            self._access_log.write("routing decision completed", record)

    def _refusal(self, trace: Trace) -> dict[str, Any]:
        return {
            "request_id": trace.request_id,
            "time": self._clock.wall(),
            "operation": trace.operation,
            "status": trace.status,
            "error": trace.error,
            "duration_ms": trace.elapsed_ms(),
        }


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
    insecure: bool = False,
    access_log: AccessLog | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> Runtime:
    """Build a runtime. Opens no socket.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    clock = clock or SystemClock()
    section, settings = config.routeiq, config.settings
    resolved = check_resolved(config)
    cooldown_s = config.router.cooldown_s
    load = LoadTracker(clock)
    breakers = Breakers(
        failure_threshold=threshold(config),
        open_s=settings.cb_timeout_seconds if cooldown_s is None else cooldown_s,
        window_s=section.resilience.breaker_window_s,
        clock=clock,
        on_transition=log_transition,
    )
    catalog = Catalog(resolved.deployments, config.router, section, resolved.facts_for)
    router = Router(
        catalog=catalog,
        config=config,
        load=load,
        breakers=breakers,
        clock=clock,
        rng=rng or random.Random(),
        verifier=verifier_of(config),
        open_features=FeatureOpener(settings.embedder_path),
    )
    client = http_client(config, clock)
    calls = {one.id: call_settings(one, config) for one in config.deployments}
    attempts = Attempts(
        client=client,
        upstreams=resolved.upstreams,
        settings=calls,
        breakers=breakers,
        load=load,
        clock=clock,
    )
    caller = Caller(
        router=router,
        catalog=catalog,
        attempts=attempts,
        settings=calls,
        breakers=breakers,
        policy=RetryPolicy(
            base_s=section.resilience.backoff_base_s,
            max_s=section.resilience.backoff_max_s,
            minimum_s=config.router.retry_after_s,
        ),
        budget=RetryBudget(share=section.resilience.retry_budget, clock=clock),
        max_fallbacks=config.router.max_fallbacks,
        hedge_after_s=section.resilience.hedge_after_s,
    )
    authenticator = Authenticator(
        master_key=config.master_key, admin_keys=settings.admin_keys, insecure=insecure
    )
    decisions = DecisionLog(section.server.decision_log_size)
    decision_file = decision_file_of(config, clock)
    feedback = Feedback(
        authenticator=authenticator,
        router=router,
        decisions=decisions,
        clock=clock,
        tail=None if decision_file is None else FeedbackTail(decision_file.folder),
    )
    accounts = Accounts(
        router=router,
        decisions=decisions,
        clock=clock,
        access_log=access_log if section.server.access_log else None,
        decision_file=decision_file,
    )
    pipeline = Pipeline(
        authenticator=authenticator,
        caller=caller,
        attempts=attempts,
        observe=accounts.observe,
        clock=clock,
        max_body_bytes=section.server.max_body_bytes,
    )
    return Runtime(
        config=config,
        resolved=resolved,
        catalog=catalog,
        router=router,
        breakers=breakers,
        load=load,
        admission=Admission(settings.max_concurrent_requests),
        authenticator=authenticator,
        pipeline=pipeline,
        decisions=decisions,
        client=client,
        clock=clock,
        feedback=feedback,
        activation=Activation(
            router=router,
            feedback=feedback,
            models_path=Path(settings.models_path),
            syncer=syncer_of(config, clock),
            poll_s=section.learning.poll_s,
            clock=clock,
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


def threshold(config: Config) -> int:
    """Failures that open a breaker. LiteLLM's `allowed_fails` is how many are still fine: one less."""
    if config.router.allowed_fails is not None:
        return config.router.allowed_fails + 1
    return config.settings.cb_failure_threshold


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


def log_transition(name: str, old: str, new: str) -> None:
    """A breaker changed: always worth a line."""
    logger.warning("circuit breaker changed", extra={"deployment": name, "from": old, "to": new})


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
    """The `routeiq:` section without the proxy's password."""
    section: dict[str, Any] = config.routeiq.model_dump(mode="json")
    proxy = section["upstreams"]["proxy_url"]
    if proxy:
        section["upstreams"]["proxy_url"] = "http://" + proxy.removeprefix("http://").split("@")[-1]
    return section
