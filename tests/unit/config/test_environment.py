"""Deployments from the environment alone."""

from __future__ import annotations

import pytest

from routeiq.config.environment import PROVIDER_VARIABLES, PROVIDERS, environment_deployments
from routeiq.config.model import DeploymentConfig
from routeiq.exceptions import Problem


def read(environ: dict[str, str]) -> tuple[dict[str, DeploymentConfig], list[Problem]]:
    problems: list[Problem] = []
    return {d.id: d for d in environment_deployments(environ, problems)}, problems


def test_without_variables_there_is_nothing() -> None:
    assert read({"PATH": "/bin"}) == ({}, [])


@pytest.mark.parametrize("name", PROVIDER_VARIABLES)
def test_each_variable_switches_its_provider_on(name: str) -> None:
    row = next(row for row in PROVIDERS if name in row.keys + row.bases)
    needed = {name: "https://own.example.com" if row.needs_base else "sk-secret"}
    found, problems = read(needed)
    assert problems == []
    wildcard = found[f"env-{row.provider}-any"]
    assert (wildcard.group, wildcard.model) == (f"{row.provider}/*", f"{row.provider}/*")
    assert wildcard.key == name
    assert len(found) == 1 + len(row.models)
    assert wildcard.api_key == (None if row.needs_base else "sk-secret")


def test_openai_has_candidates_for_auto_by_plain_name() -> None:
    found, _ = read({"OPENAI_API_KEY": "sk-secret"})
    groups = {d.group: d.model for d in found.values()}
    assert len(groups) >= 3
    assert all(m == f"openai/{g}" for g, m in groups.items() if "*" not in g)
    assert "sk-secret" not in repr(found)


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
def test_another_address_offers_no_names_that_it_may_not_have(name: str) -> None:
    found, _ = read({"OPENAI_API_KEY": "sk-secret", name: "https://own.example.com/v1"})
    assert [d.api_base for d in found.values()] == ["https://own.example.com/v1"]


def test_the_same_open_model_at_two_providers_is_one_group() -> None:
    found, _ = read({"GROQ_API_KEY": "a", "CEREBRAS_API_KEY": "b"})
    shared = [d.model for d in found.values() if d.group == "gpt-oss-120b"]
    assert shared == ["groq/openai/gpt-oss-120b", "cerebras/gpt-oss-120b"]


def test_azure_needs_its_address() -> None:
    found, (problem,) = read({"AZURE_API_KEY": "k"})
    assert found == {}
    assert (problem.key, problem.severity) == ("AZURE_API_KEY", "warning")
    found, problems = read(
        {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://a", "AZURE_API_VERSION": "v1"}
    )
    assert problems == []
    (azure,) = found.values()
    assert (azure.api_base, azure.api_key, azure.api_version) == ("https://a", "k", "v1")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:9999", "http://127.0.0.1:9999"),
        ("gpu", "http://gpu:11434"),
        ("gpu:80", "http://gpu:80"),
        ("https://ollama.example.com/", "https://ollama.example.com"),
    ],
)
def test_ollama_host_is_taken_as_ollama_takes_it(host: str, address: str) -> None:
    found, _ = read({"OLLAMA_HOST": host})
    assert found["env-ollama-any"].api_base == address


def test_the_first_of_two_names_wins() -> None:
    found, _ = read({"TOGETHERAI_API_KEY": "one", "TOGETHER_API_KEY": "two"})
    assert found["env-together_ai-any"].api_key == "one"


def test_ids_are_unique() -> None:
    environ = dict.fromkeys(PROVIDER_VARIABLES, "https://x.example.com")
    problems: list[Problem] = []
    places = environment_deployments(environ, problems)
    assert len({place.id for place in places}) == len(places)
