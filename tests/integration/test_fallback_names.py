"""Fallbacks are found under whichever name led to the group that failed; traces and sessions are noted."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import answered_by, chat, decision_of, entry
from tests.support.processes import Gateway, SimulatorProcess


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    broken = entry("broken", simulator.url, "sim-small#status=500")
    return start(
        {
            "model_list": [broken, entry("spare", simulator.url)],
            "router_settings": {
                "fallbacks": [{"broken": ["spare"]}],
                "model_group_alias": {"nick": "broken"},
                "num_retries": 0,
            },
            "routeiq": {"groups": {"club": {"models": ["broken"]}}},
        }
    )


@pytest.mark.parametrize("name", ["broken", "nick", "club"])
def test_a_fallback_is_found_under_alias_and_routing_group(gateway: Gateway, name: str) -> None:
    assert answered_by(chat(gateway, name)) == "spare"


def test_the_trace_id_of_the_caller_is_in_the_record(gateway: Gateway) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = chat(gateway, "spare", headers={"traceparent": parent})
    assert decision_of(gateway, answer)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_long_session_ids_and_many_tags_are_cut(gateway: Gateway) -> None:
    tags = ",".join(f"{n:03}-{'x' * 100}" for n in range(50))
    headers = {"x-routeiq-session-id": "s" * 5000, "x-routeiq-tags": tags}
    record = decision_of(gateway, chat(gateway, "spare", headers=headers))
    assert record["session_id"] == "s" * 256
    assert len(record["tags"]) == 32
    assert {len(tag) for tag in record["tags"]} == {64}
