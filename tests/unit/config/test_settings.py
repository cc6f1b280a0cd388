"""Settings from the environment: every one in both values, every name that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from routeiq.config.names import setting_names
from routeiq.config.settings import SECRET_FIELDS, Settings, default_text, env_name
from routeiq.exceptions import Problem

# field, what is written, what it becomes. The default is the other value.
WRITTEN: list[tuple[str, str, Any]] = [
    ("database_url", "postgresql://db/routeiq", "postgresql://db/routeiq"),
    ("redis_url", "redis://cache:6379/0", "redis://cache:6379/0"),
    ("key_secret", "k" * 32, "k" * 32),
    ("ab_testing_enabled", "false", False),
    ("hot_reload", "true", True),
    ("reload_interval", "0.5", 0.5),
    ("master_key", "sk-master", "sk-master"),
    ("admin_keys", "sk-a, sk-b,", ("sk-a", "sk-b")),
    ("config_path", "/etc/routeiq.yaml", "/etc/routeiq.yaml"),
    ("host", "127.0.0.1", "127.0.0.1"),
    ("port", "8080", 8080),
    ("workers", "3", 3),
    ("log_level", "DEBUG", "debug"),
    ("strategy", "prior", "prior"),
    ("models_path", "/models", "/models"),
    ("embedder_path", "/models/minilm", "/models/minilm"),
    ("model_s3_uri", "s3://bucket/router", "s3://bucket/router"),
    ("model_sync_interval", "30", 30.0),
    ("artifact_public_key", "/keys/public.pem", "/keys/public.pem"),
    ("artifact_hmac_key", "ab" * 32, "ab" * 32),
    ("artifact_require_signature", "true", True),
    ("max_concurrent_requests", "50", 50),
    ("drain_timeout_seconds", "2.5", 2.5),
    ("cb_failure_threshold", "9", 9),
    ("cb_timeout_seconds", "0.5", 0.5),
    ("ssrf_allow_private", "true", True),
    ("ssrf_host_allowlist", "a.example.com,b.example.com", ("a.example.com", "b.example.com")),
    ("ssrf_cidr_allowlist", "10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
]


def read(environ: dict[str, str]) -> tuple[Settings, list[Problem]]:
    return Settings.from_environ(environ)


def test_every_setting_is_in_the_table_of_this_test() -> None:
    assert [field for field, _, _ in WRITTEN] == list(Settings.model_fields)


@pytest.mark.parametrize(("field", "written", "expected"), WRITTEN)
def test_a_setting_is_read_and_has_another_default(field: str, written: str, expected: Any) -> None:
    settings, problems = read({env_name(field): written})
    assert problems == []
    assert getattr(settings, field) == expected
    assert getattr(Settings(), field) != expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROUTEIQ_PORT", "70000"),
        ("ROUTEIQ_PORT", "http"),
        ("ROUTEIQ_WORKERS", "0"),
        ("ROUTEIQ_LOG_LEVEL", "loud"),
        ("ROUTEIQ_MAX_CONCURRENT_REQUESTS", "-1"),
        ("ROUTEIQ_DRAIN_TIMEOUT_SECONDS", "soon"),
        ("ROUTEIQ_CB_FAILURE_THRESHOLD", "0"),
        ("ROUTEIQ_CB_TIMEOUT_SECONDS", "0"),
        ("ROUTEIQ_SSRF_ALLOW_PRIVATE", "perhaps"),
        ("ROUTEIQ_SSRF_CIDR_ALLOWLIST", "10.0.0.0/99"),
    ],
)
def test_a_bad_value_is_named_with_its_default_and_the_default_is_used(
    name: str, value: str
) -> None:
    settings, (problem,) = read({name: value, "ROUTEIQ_HOST": "127.0.0.1"})
    assert problem.severity == "error"
    assert problem.key == name
    assert repr(value) in problem.message
    assert problem.fix.startswith("Default: ")
    assert settings == Settings(host="127.0.0.1")


def test_all_bad_values_are_reported_at_once() -> None:
    _, problems = read({"ROUTEIQ_PORT": "x", "ROUTEIQ_WORKERS": "y", "ROUTEIQ_STRATEGI": "z"})
    assert {problem.key for problem in problems} == {
        "ROUTEIQ_PORT",
        "ROUTEIQ_WORKERS",
        "ROUTEIQ_STRATEGI",
    }


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_counts_as_not_set(value: str) -> None:
    names = [env_name(field) for field in Settings.model_fields]
    assert read(dict.fromkeys(names, value)) == (Settings(), [])


def test_secrets_are_not_in_the_repr() -> None:
    secrets = {
        "LITELLM_MASTER_KEY": "sk-one",
        "ROUTEIQ_ADMIN_KEYS": "sk-two",
        "ROUTEIQ_ARTIFACT_HMAC_KEY": "sk-three",
        "DATABASE_URL": "postgresql://u:sk-four@db/routeiq",
        "REDIS_URL": "redis://:sk-five@cache",
        "ROUTEIQ_KEY_SECRET": "sk-six",
    }
    settings, _ = read(secrets)
    assert "sk-" not in repr(settings)
    assert {env_name(field) for field in SECRET_FIELDS} == {"LITELLM_MASTER_KEY", *secrets}


@pytest.mark.parametrize("name", sorted(setting_names().planned))
def test_a_planned_setting_is_a_loud_warning_unless_it_is_off(name: str) -> None:
    settings, (problem,) = read({name: "something"})
    assert (problem.key, problem.severity) == (name, "warning")
    assert "not built yet" in problem.message
    assert settings == Settings()
    assert read({name: "false"})[1] == []


@pytest.mark.parametrize("pattern", sorted(setting_names().removed))
def test_a_name_that_is_gone_gives_its_mapping(pattern: str) -> None:
    name = pattern.replace("*", "SOMETHING")
    _, (problem,) = read({name: "1"})
    assert problem.key == name
    assert problem.fix == setting_names().removed[pattern]
    ours = name.startswith(("LLMROUTER_", "ROUTEIQ_"))
    assert problem.severity == ("error" if ours else "warning")


def test_every_name_of_the_migration_table_is_known() -> None:
    """Specification, appendix A: what changed, and to what."""
    renamed = {
        "LLMROUTER_MODELS_PATH": "ROUTEIQ_MODELS_PATH",
        "LLMROUTER_HOT_RELOAD": "ROUTEIQ_HOT_RELOAD",
        "LLMROUTER_RELOAD_INTERVAL": "ROUTEIQ_RELOAD_INTERVAL",
        "LLMROUTER_ALLOW_PRIVATE_IPS": "ROUTEIQ_SSRF_ALLOW_PRIVATE",
        "LLMROUTER_SSRF_ALLOWLIST_HOSTS": "ROUTEIQ_SSRF_HOST_ALLOWLIST",
        "LLMROUTER_SSRF_ALLOWLIST_CIDRS": "ROUTEIQ_SSRF_CIDR_ALLOWLIST",
        "LLMROUTER_OTEL_SAMPLE_RATE": "OTEL_TRACES_SAMPLER",
        "REDIS_HOST": "REDIS_URL",
        "REDIS_PORT": "REDIS_URL",
        "REDIS_PASSWORD": "REDIS_URL",
        "ROUTEIQ_AB_ENABLED": "ROUTEIQ_AB_TESTING_ENABLED",
    }
    for old, new in renamed.items():
        assert new in (setting_names().replacement(old) or "")
    gone = [
        "MCP_GATEWAY_ENABLED",
        "A2A_GATEWAY_ENABLED",
        "MCP_HA_SYNC_ENABLED",
        "LLMROUTER_ENABLE_MCP_TOOL_INVOCATION",
        "LLMROUTER_HA_MODE",
        "LLMROUTER_CONFIG_SYNC_LOCK_NAME",
        "LLMROUTER_ROUTER_CALLBACK_ENABLED",
    ]
    for name in gone:
        assert "It is gone" in (setting_names().replacement(name) or "")
    kept = {env_name(field) for field in Settings.model_fields} | set(setting_names().planned)
    for name in ("LITELLM_MASTER_KEY", "LITELLM_CONFIG_PATH", "DATABASE_URL", "STORE_MODEL_IN_DB"):
        assert name in kept
    for name in ("ROUTEIQ_MAX_CONCURRENT_REQUESTS", "ROUTEIQ_DRAIN_TIMEOUT_SECONDS"):
        assert name in kept


def test_redis_parts_are_not_mentioned_beside_redis_url() -> None:
    _, problems = read({"REDIS_URL": "redis://r", "REDIS_HOST": "r", "REDIS_PASSWORD": "p"})
    assert problems == []


def test_an_unknown_name_suggests_the_nearest() -> None:
    _, (near,) = read({"ROUTEIQ_MODEL_PATH": "/m"})
    assert near.fix == "Did you mean `ROUTEIQ_MODELS_PATH`?"
    _, (far,) = read({"ROUTEIQ_ZZZ": "1"})
    assert far.severity == "error"
    assert "settings.md" in far.fix


def test_names_of_other_software_are_left_alone() -> None:
    environ = {"PATH": "/bin", "LITELLM_LOG": "INFO", "OTEL_SDK_DISABLED": "1", "ROUTE": "x"}
    assert read(environ) == (Settings(), [])


def test_what_kubernetes_says_about_services_is_not_taken_for_settings() -> None:
    links = {
        "ROUTEIQ_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "ROUTEIQ_GATEWAY_SERVICE_PORT": "4000",
        "ROUTEIQ_GATEWAY_SERVICE_PORT_HTTP": "4000",
        "ROUTEIQ_GATEWAY_PORT": "tcp://10.0.0.1:4000",
        "ROUTEIQ_GATEWAY_PORT_4000_TCP": "tcp://10.0.0.1:4000",
        "ROUTEIQ_GATEWAY_PORT_4000_TCP_ADDR": "10.0.0.1",
        "ROUTEIQ_SERVICE_HOST": "10.0.0.1",
    }
    assert read(links) == (Settings(), [])
    settings, (problem,) = read({"ROUTEIQ_PORT": "tcp://10.0.0.1:4000"})
    assert settings.port == 4000
    assert problem.severity == "warning"
    assert "enableServiceLinks" in problem.fix


def test_a_port_that_is_not_a_service_link_is_still_unknown() -> None:
    _, (problem,) = read({"ROUTEIQ_HTTP_PORT": "8080"})
    assert problem.severity == "error"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("port", "4000"),
        ("cb_timeout_seconds", "30"),
        ("ssrf_allow_private", "false"),
        ("workers", ""),
    ],
)
def test_defaults_are_shown_as_they_would_be_written(field: str, text: str) -> None:
    assert default_text(field) == text


def test_settings_can_be_made_in_code_too() -> None:
    made = Settings(admin_keys=("sk-a",), ssrf_cidr_allowlist=("10.0.0.0/8",))
    assert made.admin_keys == ("sk-a",)
    assert made.ssrf_cidr_allowlist == ("10.0.0.0/8",)
