"""Environment settings (placeholder contract: fields are fixed, reading is in `settings.from_environ`)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """The environment: where things are, and secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config_path: str | None = None
    strategy: str | None = None
    models_path: str = "/app/models"
    max_concurrent_requests: int = 0
    drain_timeout_seconds: float = 30.0
    cb_failure_threshold: int = 5
    cb_timeout_seconds: float = 30.0
    ssrf_allow_private: bool = False
    ssrf_host_allowlist: tuple[str, ...] = ()
    ssrf_cidr_allowlist: tuple[str, ...] = ()
    admin_keys: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104
    port: int = 4000
    workers: int | None = None
    log_level: str = "info"
