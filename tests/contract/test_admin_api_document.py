"""The OpenAPI document and the page on the admin API have every route of the code, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from routeiq.config.access import EntitySettings, RateLimits, SpendLimit
from routeiq.config.experiments import Experiment, Guard, Ramp, Variant
from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.section import StrategyChoice
from routeiq.config.settings import Settings
from routeiq.gateway.openapi import document
from routeiq.gateway.runtime import build
from routeiq.gateway.services import admin_routes

PAGE = Path(__file__).parents[2] / "docs/reference/admin-api.md"
ADMIN = ("/routeiq/v1/", "/llmrouter/")
Route = tuple[str, str]
DEPLOYMENT = DeploymentConfig(
    key="model_list[0]",
    id="small",
    group="small",
    model="openai/small",
    api_base="http://127.0.0.1:9/v1",
    api_key="sk-upstream",
)


def documented() -> Iterator[tuple[Route, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            if path.startswith(ADMIN):
                yield (method.upper(), path), operation


def test_the_document_has_every_route() -> None:
    runtime = build(Config(settings=Settings(), deployments=(DEPLOYMENT,), master_key="sk-master"))
    routes = {(method, path) for path, by in admin_routes(runtime).items() for method in by}
    assert {route for route, _ in documented()} == routes


def test_the_page_has_every_route_with_its_permission() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/\S+)` \| (.*?) \|", text, re.MULTILINE)
    found = {(method, path): said for method, path, said in rows}
    assert len(rows) == len(found)
    operations = dict(documented())
    assert set(found) == set(operations)
    for route, operation in operations.items():
        permission = operation.get("x-permission")
        if permission is None:
            assert re.match("any key|no key", found[route]), route
        else:
            assert found[route] == f"`{permission}`", route


def test_every_operation_says_what_may_go_wrong() -> None:
    for (method, path), operation in documented():
        codes = set(operation["responses"])
        if operation.get("security") == []:
            continue
        assert {"401", "503"} <= codes, f"{method} {path}"
        if "x-permission" in operation:
            assert "403" in codes, f"{method} {path}"
        if "requestBody" in operation:
            assert {"400", "413"} <= codes, f"{method} {path}"
        if "{" in path:
            assert "404" in codes, f"{method} {path}"


@pytest.mark.parametrize(
    "model",
    [EntitySettings, RateLimits, SpendLimit, Experiment, Variant, Ramp, Guard, StrategyChoice],
)
def test_bodies_have_the_fields_of_the_code(model: type[BaseModel]) -> None:
    schema = document()["components"]["schemas"][model.__name__]
    assert set(schema["properties"]) == set(model.model_fields)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert set(schema.get("required", ())) == required
    assert schema["additionalProperties"] is False
