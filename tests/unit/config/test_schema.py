"""The JSON Schema: what editors complete and underline."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema_rs import Draft202012Validator

from routeiq.config.names import option_names
from routeiq.config.schema import json_schema
from tests.support.golden import DATA, cases

VALIDATOR = Draft202012Validator(json_schema())


def valid(text: str) -> bool:
    return VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("case", cases("examples"))
def test_examples_are_valid(case: str) -> None:
    errors = [e.message for e in VALIDATOR.iter_errors(yaml.safe_load((DATA / case).read_text()))]
    assert errors == []


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("routeiq: {strategy: prior}", True),
        ("routeiq: {strategy: {name: prior}}", True),
        ("routeiq: {strateggy: complexity}", False),
        ("routeiq: {profiles: {a: {require: [flying]}}}", False),
        ("router_settings: {num_retries: 2, something_new: 1}", True),
        ("router_settings: {num_retries: os.environ/RETRIES}", True),
        ("router_settings: {num_retries: many}", False),
        ("router_settings: {fallbacks: [{a: [b]}, c]}", True),
        ("router_settings: {fallbacks: {a: [b]}}", False),
        ("router_settings: {model_group_alias: {a: b}}", True),
        ("router_settings: {model_group_alias: {a: {model: b, hidden: true}}}", True),
        (
            "model_list: [{model_name: a, litellm_params: {model: a, drop_params: os.environ/X}}]",
            True,
        ),
        ("model_list: [{model_name: a}]", False),
        ("general_settings:", True),
    ],
)
def test_the_schema_agrees_with_the_loader(text: str, good: bool) -> None:
    assert valid(text) is good


def test_options_that_are_not_supported_say_so() -> None:
    definitions: dict[str, Any] = json_schema()["$defs"]
    cache = definitions["LiteLLMSettings"]["properties"]["cache"]
    assert cache["description"].startswith("Not supported yet: ")
    retries = definitions["RouterSettings"]["properties"]["num_retries"]
    assert retries["description"] == option_names().read["router_settings"]["num_retries"]
