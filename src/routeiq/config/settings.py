"""Settings from the environment: where things are, and secrets. What to do is said in config.yaml.

The fields below and settings_names.yaml are the one table from which reading, the reference page and
`.env.example` are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from routeiq.exceptions import Problem

from .names import near, setting_names

# Set by other software too, so they keep their own names.
_SHARED_NAMES = {
    "config_path": "LITELLM_CONFIG_PATH",
    "master_key": "LITELLM_MASTER_KEY",
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
}

# Read by commands that talk to a gateway, not by the gateway.
_COMMANDS_NAMES = frozenset({"ROUTEIQ_URL"})

# Kubernetes describes every Service of a namespace to its pods; one that is called `routeiq` or
# `routeiq-gateway` yields such names. They are not the operator's.
_SERVICE_LINK = re.compile(
    r"ROUTEIQ_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_OFF = frozenset({"", "0", "false", "no", "off"})


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(word for word in (part.strip() for part in value.split(",")) if word)
    return value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ip_network(word, strict=False)) for word in value)


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class Settings(BaseModel):
    """The environment: where things are, and secrets. An empty variable counts as not set."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    database_url: str = Field(default="sqlite:///routeiq.db", repr=False)
    """Where keys, control state, decisions and audit are kept: `postgresql://…` or `sqlite:///path`. Secret."""
    redis_url: str | None = Field(default=None, repr=False)
    """Redis for what workers and hosts share (limits, counters, breakers, affinity); else the database. Secret."""
    key_secret: str | None = Field(default=None, repr=False)
    """Secret that stored keys are hashed with; by default a random one is kept in the database. Secret."""
    ab_testing_enabled: bool = True
    """Off: no request is assigned to an experiment."""
    hot_reload: bool = False
    """Reload config.yaml when it changes."""
    reload_interval: Annotated[float, Field(ge=0.1)] = 5.0
    """Seconds between two looks at config.yaml."""
    master_key: str | None = Field(default=None, repr=False)
    """The admin key, also good for requests. Wins over `general_settings.master_key`. Secret."""
    admin_keys: Words = Field(default=(), repr=False)
    """Further admin keys, separated by commas. Secret."""
    config_path: str | None = None
    """Path of config.yaml; else `./config.yaml`, then `/app/config/config.yaml`, where they exist."""
    host: str = "0.0.0.0"  # noqa: S104
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 4000
    """Port to listen on; 0 takes any free one."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Worker processes; by default chosen from the CPU count and the strategy."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda v: str(v).lower())
    ] = "info"
    """Least severe log line that is written."""
    strategy: str | None = None
    """Strategy for `auto` and routing groups. Wins over `routeiq.strategy`."""
    models_path: str = "/app/models"
    """Folder of trained artifacts: what `auto` and learned strategies use."""
    embedder_path: str | None = None
    """Folder of MiniLM's files, for strategies on `onnx` features; else Hugging Face's caches are searched."""
    model_s3_uri: str | None = None
    """Where artifacts are fetched from: `s3://bucket/prefix`, `gs://bucket/prefix` or a folder."""
    model_sync_interval: Annotated[float, Field(ge=5.0, le=300.0)] = 60.0
    """Seconds between two looks at ROUTEIQ_MODEL_S3_URI."""
    artifact_public_key: str | None = None
    """Ed25519 public key (hex, base64 or a file) that signatures of artifacts are checked with."""
    artifact_hmac_key: str | None = Field(default=None, repr=False)
    """HMAC-SHA256 key, at least 32 bytes, that signatures of artifacts are checked with. Secret."""
    artifact_require_signature: bool | None = None
    """Refuse artifacts without a valid signature; by default exactly where a key is set."""
    max_concurrent_requests: Annotated[int, Field(ge=0)] = 0
    """Requests under way per worker before new ones get 503; 0 means no limit."""
    drain_timeout_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How long requests under way may take to finish after SIGTERM."""
    cb_failure_threshold: Annotated[int, Field(ge=1)] = 5
    """Failures in the window after which a deployment's circuit breaker opens."""
    cb_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long an open breaker waits before it lets one probe through."""
    ssrf_allow_private: bool = False
    """Let URLs that callers influence point at private addresses. Never metadata addresses."""
    ssrf_host_allowlist: Words = ()
    """Host names that are allowed whatever their address, separated by commas."""
    ssrf_cidr_allowlist: Annotated[Words, AfterValidator(_networks)] = ()
    """Address ranges (CIDR) that are allowed, separated by commas."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> tuple[Settings, list[Problem]]:
        """Read the known variables; name every one that is wrong, unknown, gone or not built yet.

        A value that cannot be used is reported and replaced by its default, so that the rest can be read.
        """
        problems = [
            problem
            for name in sorted(environ)
            if (problem := _judge(name, environ[name], bool(environ.get("REDIS_URL")))) is not None
        ]
        values = {
            field: text
            for field in cls.model_fields
            if (text := environ.get(env_name(field), "").strip())
            and not (field == "port" and _SERVICE_ADDRESS.match(text))
        }
        try:
            return cls.model_validate(values), problems
        except ValidationError as error:
            for field, said in {str(e["loc"][0]): e["msg"] for e in error.errors()}.items():
                message = f"{values.pop(field)!r} cannot be used: {said[0].lower()}{said[1:]}."
                fix = f"Default: {default_text(field) or 'not set'}."
                problems.append(Problem(key=env_name(field), message=message, fix=fix))
        return cls.model_validate(values), problems


SECRET_FIELDS = frozenset(
    {"master_key", "admin_keys", "artifact_hmac_key", "database_url", "redis_url", "key_secret"}
)


def env_name(field: str) -> str:
    """The environment variable behind a field of `Settings`."""
    return _SHARED_NAMES.get(field, f"ROUTEIQ_{field.upper()}")


def default_text(field: str) -> str:
    """A field's default as it would be written in the environment."""
    default = Settings.model_fields[field].default
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default in (None, ()) else str(default).lower()


def _judge(name: str, value: str, redis_url: bool) -> Problem | None:
    """What is to be said about a variable's name."""
    table = setting_names()
    ours = name.startswith(("ROUTEIQ_", "LLMROUTER_"))
    if name in table.planned:
        if value.strip().lower() in _OFF:
            return None
        message = (
            f"is known but not built yet in this version: it has no effect ({table.planned[name]})."
        )
        return Problem(key=name, message=message, severity="warning")
    if advice := table.replacement(name):
        if redis_url and name.startswith("REDIS_"):
            return None
        return Problem(
            key=name, message="is not read.", fix=advice, severity="error" if ours else "warning"
        )
    return _judge_own(name, value) if ours else None


def _judge_own(name: str, value: str) -> Problem | None:
    if name in _COMMANDS_NAMES:
        return None
    known = {env_name(field) for field in Settings.model_fields}
    address = name.endswith("_PORT") and _SERVICE_ADDRESS.match(value)
    if address or _SERVICE_LINK.fullmatch(name):
        if name not in known:
            return None
        message = f"holds the address of a Kubernetes Service, {value!r}, and is ignored."
        fix = "Set enableServiceLinks: false in the pod, or name the Service differently."
        return Problem(key=name, message=message, fix=fix, severity="warning")
    if name in known:
        return None
    fix = near(name, known | {*setting_names().planned}, "docs/reference/settings.md lists all.")
    return Problem(key=name, message="is not a setting of RouteIQ.", fix=fix)
