"""config.yaml and the environment as one `Config`, or every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from routeiq.exceptions import ConfigError, Problem

from .deployments import deployments
from .document import Document, Place, merged_environ, read_document
from .environment import environment_deployments
from .litellm_sections import BALANCING, ConfigFile
from .model import Config, RouterConfig
from .references import reference_problems
from .section import RouteIQSection, RoutingGroup
from .settings import Settings
from .validation import key_text, validate

DEFAULT_PATHS = ("config.yaml", "/app/config/config.yaml")
"""Read where they exist and neither `--config` nor LITELLM_CONFIG_PATH names another."""


def load_config(path: str | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: it cannot be used; has every problem that was found, warnings included.
    """
    config, problems = inspect_config(path, environ)
    if config is None or any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    return config


def inspect_config(
    path: str | None, environ: Mapping[str, str]
) -> tuple[Config | None, tuple[Problem, ...]]:
    """The configuration as far as it can be understood, with everything that is to be said about it."""
    problems: list[Problem] = []
    file = find_config(path, environ)
    document = Document()
    if file is not None:
        try:
            document = read_document(Path(file), environ, problems)
        except ConfigError as error:
            return None, in_order([*problems, *error.problems])
    merged = merged_environ(document.root, environ)
    settings, found = Settings.from_environ(merged)
    for problem in found:
        mark = document.marks.get(("environment_variables", problem.key), "")
        problems.append(replace(problem, file=mark))
    written = validate(document, problems)
    if written is None:
        return None, in_order(problems)
    if written.model_list is None:
        places = environment_deployments(merged, problems)
    else:
        places = deployments(written.model_list, document, problems)
    config = Config(
        settings=settings,
        deployments=places,
        router=router_config(written),
        routeiq=_with_groups(written),
        master_key=settings.master_key or written.general_settings.master_key,
        environ=merged,
        source=file or "environment",
        digest=document.digest,
        files=document.files,
    )
    problems += _remarks(config, written, document)
    problems += reference_problems(config, document)
    sorted_ = in_order(problems)
    notes = tuple(problem for problem in sorted_ if problem.severity == "warning")
    return replace(config, notes=notes), sorted_


def in_order(problems: list[Problem]) -> tuple[Problem, ...]:
    """As they stand in the files; those of the environment first."""

    def place(problem: Problem) -> tuple[str, int]:
        file, _, line = problem.file.rpartition(":")
        return (file, int(line)) if line.isdigit() else (problem.file, 0)

    return tuple(sorted(problems, key=place))


def find_config(path: str | None, environ: Mapping[str, str]) -> str | None:
    """`--config`, LITELLM_CONFIG_PATH, else the first of `DEFAULT_PATHS` that exists."""
    named = path or environ.get("LITELLM_CONFIG_PATH", "").strip()
    return named or next((name for name in DEFAULT_PATHS if Path(name).is_file()), None)


def router_config(written: ConfigFile) -> RouterConfig:
    """`router_settings`, then `litellm_settings`, then the defaults."""
    router, general = written.router_settings, written.litellm_settings
    strategy = router.routing_strategy
    values: dict[str, Any] = {
        "balancing": None if strategy is None else BALANCING[strategy],
        "timeout_s": general.request_timeout if router.timeout is None else router.timeout,
        "stream_timeout_s": router.stream_timeout,
        "retry_after_s": router.retry_after,
        "cooldown_s": router.cooldown_time,
        "tag_filtering": router.enable_tag_filtering,
        "drop_params": general.drop_params,
    }
    for name in type(general).__base__.model_fields:  # type: ignore[union-attr]
        mine = getattr(router, name)
        values[name] = getattr(general, name) if mine is None else mine
    aliases = router.model_group_alias or {}
    values["aliases"] = {alias: target.model for alias, target in aliases.items()}
    values["hidden_aliases"] = frozenset(a for a, target in aliases.items() if target.hidden)
    return RouterConfig(**{name: value for name, value in values.items() if value is not None})


def _with_groups(written: ConfigFile) -> RouteIQSection:
    """The `routeiq` section with LiteLLM's `routing_groups` among its groups; its own ones win."""
    theirs = {
        group.group_name: RoutingGroup(
            models=group.models,
            strategy=BALANCING[group.routing_strategy] if group.routing_strategy else None,
        )
        for group in written.router_settings.routing_groups or ()
    }
    return written.routeiq.model_copy(update={"groups": {**theirs, **written.routeiq.groups}})


def _remarks(config: Config, written: ConfigFile, document: Document) -> Iterator[Problem]:
    """What works, but perhaps not as it was meant."""

    def remark(path: Place, message: str, fix: str) -> Problem:
        key, file = key_text(path), document.where(path)
        return Problem(key=key, message=message, fix=fix, file=file, severity="warning")

    strategy = written.router_settings.routing_strategy or ""
    if strategy.startswith("usage-based-routing"):
        message = (
            f"{strategy!r} is answered by least-busy: fewest calls under way, not tokens used."
        )
        yield remark(("router_settings", "routing_strategy"), message, "Write least-busy.")
    place: Place = ("general_settings", "master_key")
    own, given = written.general_settings.master_key, config.settings.master_key
    if own and given and own != given:
        yield remark(place, "differs from LITELLM_MASTER_KEY, which wins.", "Keep one of the two.")
    proxy = next((n for n in ("HTTPS_PROXY", "https_proxy") if config.environ.get(n)), None)
    if proxy and config.routeiq.upstreams.proxy_url is None:
        message = "is set, but providers are called directly."
        fix = "Write routeiq.upstreams.proxy_url to call them through a proxy."
        yield Problem(key=proxy, message=message, fix=fix, severity="warning")
    if config.master_key == "sk-1234":
        message = "is the example of LiteLLM's documentation: everybody knows it."
        yield remark(place, message, "Use the output of `openssl rand -hex 24`.")
