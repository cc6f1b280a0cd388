"""`routeiq check`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from routeiq.cli.check import check

CONFIG = """
model_list:
  - model_name: small
    litellm_params: {model: openai/gpt-5.4-mini, api_key: sk-secret-1, tags: [cheap]}
  - model_name: own
    litellm_params: {model: hosted_vllm/qwen, api_base: "http://gpu:8000/v1"}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-6, api_key: sk-secret-4}
router_settings:
  fallbacks: [{small: [own]}]
  default_fallbacks: [own]
  model_group_alias: {tiny: small}
general_settings: {master_key: sk-secret-5}
routeiq:
  groups: {both: {models: [small, own]}}
  profiles: {mine: {description: Our own.}}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(text: str | None, *options: str, **environ: str) -> Result:
    if text is not None:
        Path("mine.yaml").write_text(text)
        options = ("--config", "mine.yaml", *options)
    return CliRunner().invoke(check, options, env=environ)


def report(text: str | None, **environ: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(run(text, "--json", **environ).stdout)
    return content


def test_it_says_what_goes_where() -> None:
    result = run(CONFIG)
    assert result.exit_code == 0, result.output
    for words in (
        "source: mine.yaml",
        "https://api.openai.com/v1/chat/completions",
        "http://gpu:8000/v1/chat/completions",
        "$0.75 in, $4.5 out per Mtok",
        "price unknown",
        "litellm lane",
        "both:",
        "tiny: small",
        "default_fallbacks:\n- own",
        "Our own.",
        "prior",
        "ROUTEIQ_PORT",
        "The gateway would start: 0 error(s)",
    ):
        assert words in result.output


def test_no_secret_is_printed() -> None:
    environ = {"ROUTEIQ_ADMIN_KEYS": "sk-secret-6", "LITELLM_MASTER_KEY": "sk-secret-7"}
    for options in ((), ("--json",)):
        assert "sk-secret" not in run(CONFIG, *options, **environ).output


def test_the_report_as_json() -> None:
    found = report(CONFIG, ROUTEIQ_PORT="5000", ROUTEIQ_ADMIN_KEYS="sk-a")
    assert found["ok"] is True
    small, own, claude = found["models"]
    assert (small["lane"], small["provider"], small["tags"]) == ("native", "openai", ["cheap"])
    assert own["url"] == "http://gpu:8000/v1/chat/completions"
    assert (claude["lane"], claude["url"]) == ("litellm", None)
    assert found["groups"] == {"both": ["small", "own"]}
    assert found["fallbacks"]["fallbacks"] == {"small": ["own"]}
    settings = {one["name"]: one for one in found["settings"]}
    assert settings["ROUTEIQ_PORT"] == {
        "name": "ROUTEIQ_PORT",
        "value": 5000,
        "source": "environment",
    }
    assert settings["ROUTEIQ_HOST"]["source"] == "default"
    assert settings["ROUTEIQ_ADMIN_KEYS"]["value"] == "(set, not shown)"
    assert found["master_key"] == "(set, not shown)"


def test_settings_of_the_file_are_named_as_such() -> None:
    found = report("environment_variables: {ROUTEIQ_PORT: 5000}\n" + CONFIG)
    (port,) = (one for one in found["settings"] if one["name"] == "ROUTEIQ_PORT")
    assert (port["value"], port["source"]) == (5000, "mine.yaml")


def test_it_ends_with_2_when_the_gateway_would_not_start() -> None:
    result = run("model_list: [{model_name: a, litellm_params: {model: openai/a, rpm: many}}]\n")
    assert result.exit_code == 2
    assert "error: mine.yaml:1: model_list[0].litellm_params.rpm: 'many'" in result.output
    assert "The gateway would not start: 1 error(s)" in result.output
    assert report("model_list: [\n")["ok"] is False


def test_a_deployment_that_cannot_be_resolved_is_named_with_its_place() -> None:
    found = report("model_list:\n  - model_name: a\n    litellm_params: {model: openai/a}\n")
    problem = next(one for one in found["problems"] if one["severity"] == "error")
    assert problem["key"].startswith("model_list[0]")
    assert problem["file"] == "mine.yaml:2"


def test_what_only_building_finds_is_named_too() -> None:
    found = report(CONFIG + "  balancing: round-robin\n".replace("round-robin", "random"))
    assert found["ok"] is True
    found = report(CONFIG.replace("models: [small, own]", "models: [smal]"))
    assert any("smal" in one["message"] for one in found["problems"])
    assert found["ok"] is False


def test_without_a_file_the_environment_is_described() -> None:
    found = report(None, GROQ_API_KEY="sk-secret-8", LITELLM_MASTER_KEY="sk-secret-9")
    assert (found["source"], found["ok"]) == ("environment", True)
    assert found["models"][0]["name"] == "groq/*"
    assert found["problems"] == []


def test_without_anything_it_says_what_to_set() -> None:
    result = run(None)
    assert result.exit_code == 2
    assert "OPENAI_API_KEY" in result.output


def test_a_missing_master_key_is_a_warning() -> None:
    result = run(None, GROQ_API_KEY="k")
    assert result.exit_code == 0
    assert "warning: LITELLM_MASTER_KEY" in result.output


def test_an_address_with_a_password_is_an_error_that_does_not_show_it() -> None:
    text = CONFIG.replace("http://gpu:8000/v1", "http://user:sk-secret-2@gpu:8000/v1")
    found = report(text)
    assert found["ok"] is False
    assert any("'gpu:8000/v1' is not an http" in str(one) for one in found["problems"])
    assert "sk-secret-2" not in str(found)
