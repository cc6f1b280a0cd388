"""The whole configuration: which file, what wins over what, what points at nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from routeiq.config.loader import find_config, inspect_config, load_config
from routeiq.config.model import Config, RouterConfig
from routeiq.config.section import RouteIQSection, StrategyChoice
from routeiq.exceptions import ConfigError, Problem

MODELS: list[dict[str, Any]] = [
    {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "k"}}
    for name in ("small", "large")
]


def inspect(
    folder: Path, environ: dict[str, str] | None = None, **sections: Any
) -> tuple[Config | None, tuple[Problem, ...]]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": MODELS, **sections}))
    return inspect_config(str(path), environ or {})


def load(folder: Path, environ: dict[str, str] | None = None, **sections: Any) -> Config:
    config, problems = inspect(folder, environ, **sections)
    assert [p for p in problems if p.severity == "error"] == []
    assert config is not None
    return config


# section, option, what is written, field of RouterConfig, what it becomes
ROUTER: list[tuple[str, str, Any, str, Any]] = [
    ("router_settings", "num_retries", 0, "num_retries", 0),
    ("router_settings", "max_fallbacks", 1, "max_fallbacks", 1),
    ("router_settings", "timeout", 9, "timeout_s", 9.0),
    ("router_settings", "stream_timeout", 8, "stream_timeout_s", 8.0),
    ("router_settings", "retry_after", 2, "retry_after_s", 2.0),
    ("router_settings", "allowed_fails", 3, "allowed_fails", 3),
    ("router_settings", "cooldown_time", 7, "cooldown_s", 7.0),
    ("router_settings", "enable_tag_filtering", True, "tag_filtering", True),
    ("router_settings", "fallbacks", [{"small": ["large"]}], "fallbacks", {"small": ("large",)}),
    ("router_settings", "fallbacks", ["large"], "fallbacks", {"*": ("large",)}),
    (
        "router_settings",
        "context_window_fallbacks",
        [{"small": "large"}],
        "context_window_fallbacks",
        {"small": ("large",)},
    ),
    (
        "router_settings",
        "content_policy_fallbacks",
        [{"small": ["large"]}],
        "content_policy_fallbacks",
        {"small": ("large",)},
    ),
    ("router_settings", "default_fallbacks", ["large"], "default_fallbacks", ("large",)),
    ("router_settings", "model_group_alias", {"a": "small"}, "aliases", {"a": "small"}),
    (
        "router_settings",
        "model_group_alias",
        {"a": {"model": "small", "hidden": True}},
        "hidden_aliases",
        frozenset({"a"}),
    ),
    ("router_settings", "routing_strategy", "simple-shuffle", "balancing", "weighted"),
    ("router_settings", "routing_strategy", "least-busy", "balancing", "least-busy"),
    ("router_settings", "routing_strategy", "latency-based-routing", "balancing", "lowest-latency"),
    ("router_settings", "routing_strategy", "cost-based-routing", "balancing", "lowest-cost"),
    ("router_settings", "routing_strategy", "usage-based-routing", "balancing", "least-busy"),
    ("router_settings", "routing_strategy", "usage-based-routing-v2", "balancing", "least-busy"),
    ("litellm_settings", "num_retries", 4, "num_retries", 4),
    ("litellm_settings", "max_fallbacks", 1, "max_fallbacks", 1),
    ("litellm_settings", "request_timeout", 9, "timeout_s", 9.0),
    ("litellm_settings", "allowed_fails", 3, "allowed_fails", 3),
    ("litellm_settings", "drop_params", True, "drop_params", True),
    ("litellm_settings", "fallbacks", [{"small": ["large"]}], "fallbacks", {"small": ("large",)}),
    ("litellm_settings", "default_fallbacks", ["large"], "default_fallbacks", ("large",)),
]


@pytest.mark.parametrize(("section", "option", "written", "field", "expected"), ROUTER)
def test_an_option_of_litellm_is_read_and_has_another_default(
    tmp_path: Path, section: str, option: str, written: Any, field: str, expected: Any
) -> None:
    router = load(tmp_path, **{section: {option: written}}).router
    assert getattr(router, field) == expected
    assert getattr(RouterConfig(), field) != expected
    assert load(tmp_path).router == RouterConfig()


@pytest.mark.parametrize("option", ["num_retries", "max_fallbacks", "allowed_fails"])
def test_router_settings_win_over_litellm_settings(tmp_path: Path, option: str) -> None:
    config = load(tmp_path, router_settings={option: 0}, litellm_settings={option: 9})
    assert getattr(config.router, option) == 0


def test_empty_sections_count_as_not_written(tmp_path: Path) -> None:
    sections = ("router_settings", "litellm_settings", "general_settings", "routeiq")
    config = load(tmp_path, **dict.fromkeys(sections))
    assert (config.router, config.routeiq) == (RouterConfig(), RouteIQSection())


def test_routing_groups_become_groups_and_routeiqs_own_win(tmp_path: Path) -> None:
    theirs = [
        {"group_name": "both", "models": ["small"], "routing_strategy": "simple-shuffle"},
        {"group_name": "mine", "models": ["small"]},
    ]
    own = {"mine": {"models": ["large"]}}
    config = load(tmp_path, router_settings={"routing_groups": theirs}, routeiq={"groups": own})
    assert config.routeiq.groups["both"].strategy == "weighted"
    assert config.routeiq.groups["mine"].models == ("large",)


def test_both_forms_of_a_strategy(tmp_path: Path) -> None:
    assert load(tmp_path, routeiq={"strategy": "random"}).routeiq.strategy == "random"
    config = load(tmp_path, routeiq={"strategy": {"name": "random"}})
    assert config.routeiq.strategy == StrategyChoice(name="random")


def test_master_key_comes_from_the_environment_then_from_the_file(tmp_path: Path) -> None:
    general = {"master_key": "os.environ/PROXY_KEY"}
    assert load(tmp_path).master_key is None
    environ = {"PROXY_KEY": "sk-file"}
    assert load(tmp_path, environ, general_settings=general).master_key == "sk-file"
    environ["LITELLM_MASTER_KEY"] = "sk-env"
    config = load(tmp_path, environ, general_settings=general)
    assert config.master_key == "sk-env"
    (note,) = config.notes
    assert "which wins" in note.message
    assert "sk-" not in repr(config)


def test_the_key_of_litellms_documentation_is_pointed_out(tmp_path: Path) -> None:
    (note,) = load(tmp_path, general_settings={"master_key": "sk-1234"}).notes
    assert "everybody knows it" in note.message


def test_environment_variables_of_the_file_are_settings_too(tmp_path: Path) -> None:
    own = {"ROUTEIQ_PORT": 5000, "OTHER": "x", "ROUTEIQ_HOST": "127.0.0.1"}
    config = load(tmp_path, {"ROUTEIQ_HOST": "::1"}, environment_variables=own)
    assert (config.settings.port, config.settings.host) == (5000, "::1")
    assert config.environ["OTHER"] == "x"


def test_environ_keeps_the_providers_variables(tmp_path: Path) -> None:
    assert load(tmp_path, {"OPENAI_API_KEY": "k"}).environ["OPENAI_API_KEY"] == "k"


def test_without_a_model_list_the_environment_gives_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("routeiq: {profile: eco}\n")
    config, problems = inspect_config(str(tmp_path / "config.yaml"), {"GROQ_API_KEY": "k"})
    assert problems == ()
    assert config is not None
    assert config.routeiq.profile == "eco"
    assert config.deployments[0].group == "groq/*"


def test_an_empty_model_list_stays_empty(tmp_path: Path) -> None:
    assert load(tmp_path, {"GROQ_API_KEY": "k"}, model_list=[]).deployments == ()


def test_the_path_is_the_options_then_the_variables_then_the_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {}) is None
    assert load_config(None, {"GROQ_API_KEY": "k"}).source == "environment"
    (tmp_path / "config.yaml").write_text("model_list: []\n")
    assert find_config(None, {}) == "config.yaml"
    assert find_config(None, {"LITELLM_CONFIG_PATH": "other.yaml"}) == "other.yaml"
    assert find_config("third.yaml", {"LITELLM_CONFIG_PATH": "other.yaml"}) == "third.yaml"


@pytest.mark.parametrize("environ", [{}, {"LITELLM_CONFIG_PATH": "absent.yaml"}])
def test_a_named_file_that_is_not_there_is_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(None if environ else "absent.yaml", environ)


def test_source_and_digest_say_what_was_read(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.source == str(tmp_path / "config.yaml")
    assert len(config.digest) == 64


def test_warnings_do_not_keep_a_configuration_from_loading(tmp_path: Path) -> None:
    environ = {"STORE_MODEL_IN_DB": "true"}
    config = load(tmp_path, environ, litellm_settings={"cache": True})
    assert [note.key for note in config.notes] == ["STORE_MODEL_IN_DB", "litellm_settings.cache"]
    path = str(tmp_path / "config.yaml")
    assert load_config(path, environ) == config


@pytest.mark.parametrize(
    "sections",
    [
        {"router_settings": {"fallbacks": [{"small": ["auto", "eco", "alias", "group", "free"]}]}},
        {"router_settings": {"fallbacks": [{"anything": ["small"]}]}},
        {"router_settings": {"default_fallbacks": ["groq/llama"]}},
    ],
)
def test_a_fallback_may_be_anything_that_clients_can_ask_for(
    tmp_path: Path, sections: dict[str, Any]
) -> None:
    sections["router_settings"]["model_group_alias"] = {"alias": "large"}
    wildcard = {"model_name": "groq/*", "litellm_params": {"model": "groq/*"}}
    load(
        tmp_path,
        model_list=[*MODELS, wildcard],
        routeiq={"groups": {"group": {"models": ["small"]}}},
        **sections,
    )


def test_a_strategy_of_the_environment_is_checked(tmp_path: Path) -> None:
    _, (problem,) = inspect(tmp_path, {"ROUTEIQ_STRATEGY": "priorr"})
    assert problem.key == "ROUTEIQ_STRATEGY"
    assert "prior" in problem.fix
    assert load(tmp_path, {"ROUTEIQ_STRATEGY": "random"}).settings.strategy == "random"
