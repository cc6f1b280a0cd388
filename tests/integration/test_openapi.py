"""The gateway keeps what its own OpenAPI document promises: schemathesis asks, the document judges."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.integration.conftest import StartGateway
from tests.integration.helpers import KEY, catalogue, get
from tests.support.http import Answer, call
from tests.support.processes import Gateway, SimulatorProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
LIMITS = settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    return start(
        {"model_list": catalogue(simulator.url), "router_settings": {"num_retries": 0}},
        env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "1000000"},
    )


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in document["paths"].items() for method in methods]


def bare(
    gateway: Gateway, path: str, method: str, headers: Mapping[str, str] | None = None
) -> Answer:
    """A call with an empty body, where there is one; names in the path are replaced by something."""
    concrete = re.sub(r"\{\w+\}", "sim-small", path)
    body: Any = {} if method in ("post", "put", "patch") else None
    return call(gateway.url + concrete, body, method=method.upper(), headers=headers)


def test_the_document_is_served_without_a_key_and_names_every_route(gateway: Gateway) -> None:
    document = call(f"{gateway.url}/routeiq/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == get(gateway, "/routeiq/v1/status").json()["version"]
    for path, method in operations(document):
        answer = bare(gateway, path, method, KEY)
        assert answer.status != 405, f"{method} {path}"
        assert b"There is no route" not in answer.body, f"{method} {path}"


@pytest.mark.timeout(180)  # over a thousand calls
def test_what_is_answered_is_what_the_document_says(gateway: Gateway) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/routeiq/v1/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]

        for mode in GenerationMode:

            @LIMITS
            @given(case=operation.as_strategy(generation_mode=mode))
            def run(case: Any) -> None:
                nonlocal tried
                tried += 1
                case.call_and_validate(headers=KEY, checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):  # nothing of this operation can be wrong
                run()
    assert tried > 100
    assert "Traceback" not in gateway.log()


def test_without_a_key_every_protected_operation_is_a_401(gateway: Gateway) -> None:
    document = call(f"{gateway.url}/routeiq/v1/openapi.json").json()
    for path, method in operations(document):
        operation = document["paths"][path][method]
        answer = bare(gateway, path, method)
        free = operation.get("security") == []
        assert (answer.status == 401) is not free, f"{method} {path}: {answer.status}"


def test_a_key_without_rights_is_told_the_permission_that_the_document_names(
    gateway: Gateway,
) -> None:
    made = call(f"{gateway.url}/routeiq/v1/keys", {"alias": "nobody"}, headers=KEY)
    mine = {"authorization": f"Bearer {made.json()['secret']}"}
    document = call(f"{gateway.url}/routeiq/v1/openapi.json").json()
    named = 0
    for path, method in operations(document):
        permission = document["paths"][path][method].get("x-permission")
        answer = bare(gateway, path, method, mine)
        if permission is None:
            assert answer.status != 403, f"{method} {path}"
        else:
            named += 1
            assert answer.status == 403, f"{method} {path}: {answer.status}"
            assert f"`{permission}`" in answer.json()["error"]["message"], f"{method} {path}"
    assert named > 40
