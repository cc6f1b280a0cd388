"""Our equivalents of LiteLLM's published example configurations: understood, or what is not is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from routeiq.config.litellm_sections import ConfigFile
from routeiq.config.loader import load_config
from routeiq.config.names import option_names
from routeiq.config.validation import SECTIONS
from tests.support.golden import DATA, ENVIRON, cases, expected, said

ROOT = Path(__file__).parents[2]
LISTED = ("litellm_settings", "router_settings", "general_settings")


@pytest.fixture(autouse=True)
def _in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)


@pytest.mark.parametrize("case", cases("examples"))
def test_an_example_loads_and_says_what_it_should(case: str) -> None:
    assert said(case) == expected(case)
    assert "# error" not in expected(case)
    assert load_config(case, ENVIRON).source == case


def options(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for section in LISTED:
        for name in document.get(section) or {}:
            yield section, name
    for entry in document.get("model_list") or ():
        for name in entry["litellm_params"]:
            yield "litellm_params", name


@pytest.mark.parametrize("case", cases("examples"))
def test_no_option_of_an_example_is_silently_ignored(case: str) -> None:
    table = option_names()
    document = yaml.safe_load(Path(case).read_text())
    for section, name in options(document):
        understood = name in SECTIONS[section].model_fields or name in table.always.get(section, ())
        understood |= section == "litellm_params" and name in table.body_params
        value = (document.get(section) or {}).get(name, True)
        named = re.search(rf"\.{name}: not supported yet", expected(case)) is not None
        assert understood or named or value is False, (section, name)


def test_load_balancing_is_understood() -> None:
    config = load_config("examples/load-balancing.yaml", ENVIRON)
    eu, us, openai = config.deployments
    assert {eu.group, us.group, openai.group} == {"gpt-4o"}
    assert (eu.id, eu.rpm, eu.base_model) == ("eu", 900, "azure/gpt-4o")
    assert eu.api_base == "https://azure.example.com"
    assert (us.order, us.api_version, openai.tpm) == (2, "2025-01-01-preview", 1000)
    assert config.router.aliases == {"gpt-4": "gpt-4o", "internal": "gpt-4o"}
    assert config.router.hidden_aliases == {"internal"}
    assert (config.router.balancing, config.router.cooldown_s) == ("weighted", 30.0)


def test_included_files_are_understood() -> None:
    config = load_config("examples/include.yaml", ENVIRON)
    assert [place.group for place in config.deployments] == ["main", "second"]
    router = config.router
    assert (router.num_retries, router.timeout_s, router.drop_params) == (5, 20.0, True)


def test_local_models_are_understood() -> None:
    ollama, vllm, plain = load_config("examples/local.yaml", ENVIRON).deployments
    assert ollama.params == {"keep_alive": "8m"}
    assert vllm.params == {"temperature": 0.6, "top_k": 20}
    assert vllm.facts.input_usd_per_token == 0.0
    assert plain.headers == {"x-team": "a"}


def test_azure_is_understood() -> None:
    chat, embeddings = load_config("examples/azure.yaml", ENVIRON).deployments
    assert chat.azure_ad_token_file == "/var/run/secrets/azure/token"
    assert (chat.facts.mode, embeddings.facts.mode) == ("chat", "embedding")


def test_the_commented_example_loads_without_a_word() -> None:
    environ = {"LITELLM_MASTER_KEY": "sk-x", "OPENAI_API_KEY": "k"}
    config = load_config(str(ROOT / "config" / "config.yaml"), environ)
    assert config.notes == ()
    assert config.deployments


def test_the_commented_example_names_its_schema_and_holds_no_secret() -> None:
    text = (ROOT / "config" / "config.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=./routeiq.schema.json\n")
    assert not re.search(r"(_key|_ad_token|password): (?!os\.environ/)\S", text)


def test_every_section_of_the_file_is_in_the_commented_example() -> None:
    text = (ROOT / "config" / "config.yaml").read_text()
    for section in ConfigFile.model_fields:
        assert re.search(rf"^#? ?{section}:", text, re.MULTILINE), section
