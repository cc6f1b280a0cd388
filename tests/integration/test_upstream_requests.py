"""What reaches the provider: fields, parameters and headers, as configured and no others."""

from __future__ import annotations

import gzip
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.integration.conftest import StartGateway
from tests.integration.helpers import (
    KEY,
    UPSTREAM_KEY,
    answered_by,
    assert_discreet,
    assert_error,
    chat,
    entry,
    post,
    received,
    user,
)
from tests.support.http import call
from tests.support.processes import Gateway, SimulatorProcess, start_simulator

SECRETS = {
    "authorization": KEY["authorization"],
    "x-api-key": "sk-client",
    "api-key": "sk-client",
    "cookie": "session=1",
    "x-forwarded-for": "10.0.0.1",
    "openai-organization": "org-client",
    "x-simulator": "status=500",
}


@pytest.fixture(scope="module")
def gateway(start: StartGateway, simulator: SimulatorProcess) -> Gateway:
    url = simulator.url
    groq = {"api_base": f"{url}/v1", "api_key": "sk-groq"}
    return start(
        {
            "model_list": [
                entry("plain", url),
                entry("defaults", url, temperature=0.25, max_tokens=7, extra_body={"top_k": 3}),
                entry("dropping", url, additional_drop_params=["seed", "user"]),
                entry(
                    "headed",
                    url,
                    extra_headers={"x-team": "blue"},
                    headers={"x-old": "1"},
                    organization="org-ours",
                ),
                {
                    "model_name": "groq-drop",
                    "litellm_params": {"model": "groq/sim-small", "drop_params": True, **groq},
                },
                {
                    "model_name": "groq-keep",
                    "litellm_params": {"model": "groq/sim-small", "drop_params": False, **groq},
                },
            ],
            "litellm_settings": {"drop_params": True},
        }
    )


def sent(sim: SimulatorProcess) -> dict[str, Any]:
    body: dict[str, Any] = received(sim)["json"]
    return body


def test_unknown_fields_pass_untouched(gateway: Gateway, sim: SimulatorProcess) -> None:
    odd = {
        "provider_thing": {"nested": [1, 2.5, None, {"deep": "Ünïcödé \u0001 \U0001f600"}]},
        "seed": 2**60,
        "temperature": 0.1,
        "logit_bias": {"50256": -100},
        "empty": [],
        "": "no name",
    }
    messages = [
        {"role": "developer", "content": "x", "name": "n"},
        user([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]),
    ]
    body = {"model": "plain", "messages": messages, **odd}
    assert post(gateway, "/v1/chat/completions", body).status == 200
    assert sent(sim) == {**body, "model": "sim-small"}


def test_nothing_is_added_to_a_plain_request(gateway: Gateway, sim: SimulatorProcess) -> None:
    chat(gateway, "plain")
    assert sent(sim).keys() == {"model", "messages"}


def test_stream_options_of_the_client_are_kept(gateway: Gateway, sim: SimulatorProcess) -> None:
    chat(gateway, "plain", stream=True, stream_options={"include_obfuscation": False})
    assert sent(sim)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


def test_default_parameters_fill_gaps_only(gateway: Gateway, sim: SimulatorProcess) -> None:
    chat(gateway, "defaults")
    body = sent(sim)
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (0.25, 7, 3)
    sim.reset()
    chat(gateway, "defaults", temperature=1, max_completion_tokens=5)
    body = sent(sim)
    assert (body["temperature"], body["max_completion_tokens"]) == (1, 5)
    assert "max_tokens" not in body


@pytest.mark.parametrize(("model", "kept"), [("plain", True), ("dropping", False)])
def test_additional_drop_params(
    gateway: Gateway, sim: SimulatorProcess, model: str, kept: bool
) -> None:
    chat(gateway, model, seed=1, user="u", top_p=0.5)
    body = sent(sim)
    assert ("seed" in body, "user" in body) == (kept, kept)
    assert body["top_p"] == 0.5


@pytest.mark.parametrize(("model", "kept"), [("groq-keep", True), ("groq-drop", False)])
def test_drop_params_drops_what_the_provider_does_not_know(
    gateway: Gateway, sim: SimulatorProcess, model: str, kept: bool
) -> None:
    assert chat(gateway, model, logit_bias={"1": 2}).status == 200
    assert ("logit_bias" in sent(sim)) is kept


def test_headers_to_the_provider_are_the_operators(gateway: Gateway, sim: SimulatorProcess) -> None:
    answer = chat(gateway, "headed", headers={**SECRETS, "openai-beta": "assistants=v2"})
    assert answered_by(answer) == "headed"
    headers = received(sim)["headers"]
    assert headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert (headers["x-team"], headers["x-old"]) == ("blue", "1")
    assert headers["openai-organization"] == "org-ours"
    assert not {"x-api-key", "api-key", "cookie", "x-forwarded-for", "x-simulator"} & headers.keys()
    assert KEY["authorization"] not in headers.values()
    assert headers["user-agent"].startswith("routeiq/")


def test_openai_beta_reaches_the_provider(gateway: Gateway, sim: SimulatorProcess) -> None:
    chat(gateway, "plain", headers={"openai-beta": "assistants=v2"})
    assert received(sim)["headers"].get("openai-beta") == "assistants=v2"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_compressed_body_arrives_plain(
    gateway: Gateway, sim: SimulatorProcess, encoding: str
) -> None:
    body = {"model": "plain", "messages": [user("hello " * 9000)]}
    plain = json.dumps(body).encode()
    packed = gzip.compress(plain) if encoding == "gzip" else plain
    answer = post(gateway, "/v1/chat/completions", packed, {"content-encoding": encoding})
    assert answer.status == 200
    asked = received(sim)
    assert asked["json"]["messages"] == body["messages"]
    assert "content-encoding" not in asked["headers"]


@pytest.mark.parametrize("known", [True, False])
def test_ca_file_decides_whether_a_tls_provider_is_trusted(
    start: StartGateway, tmp_path: Path, known: bool
) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1", "localhost")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    key.write_bytes(pair.private_key_pem.bytes())
    ca.write_bytes(authority.cert_pem.bytes())
    with start_simulator("--tls-cert", str(cert), "--tls-key", str(key)) as secure:
        other = start(
            {
                "model_list": [entry("secure", secure.url)],
                "router_settings": {"num_retries": 0},
                "routeiq": {"upstreams": {"ca_file": str(ca) if known else None}},
            }
        )
        answer = chat(other, "secure")
        tls = ssl.create_default_context(cafile=ca)
        seen = call(f"{secure.url}/_simulator/requests", tls=tls).json()
    if known:
        assert answered_by(answer) == "secure"
        assert len(seen) == 1
    else:
        assert_error(answer, 502, "upstream_error")
        assert_discreet(answer, secure.url.rpartition(":")[2], "CERTIFICATE", "certificate")
        assert seen == []
