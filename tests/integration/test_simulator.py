"""The simulator over real sockets: the official client, raw bytes, TLS, and the command."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
import trustme
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam
from pydantic import BaseModel

from routeiq.simulator import SimulatedModel, Simulator
from tests.support.http import call, connect
from tests.support.processes import (
    SimulatorProcess,
    free_port,
    start_simulator,
    wait_until,
    write_config,
)

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": PARAMETERS},
}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def client(sim: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="sk", max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="sim-small", messages=HELLO)
    answer = raw.parse()
    assert raw.headers["x-simulator-quality"] == "1"
    assert (answer.choices[0].message.content or "").startswith("Right answer by sim-small")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_chat_stream_adds_up_to_the_plain_answer(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="sim-small", messages=HELLO)
    stream = client.chat.completions.create(
        model="sim-small", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage == plain.usage


def test_tool_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim-small", messages=HELLO, tools=[TOOL], tool_choice="required"
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    (made,) = answer.choices[0].message.tool_calls or []
    assert made.type == "function"
    assert made.function.name == "weather"
    assert json.loads(made.function.arguments) == {"city": "text", "days": 1}


def test_streamed_tool_call(client: openai.OpenAI) -> None:
    ask: list[ChatCompletionMessageParam] = [{"role": "user", "content": "use the tool"}]
    with client.chat.completions.stream(model="sim-small", messages=ask, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    (made,) = final.choices[0].message.tool_calls or []
    assert json.loads(made.function.arguments) == {"city": "text", "days": 1}
    assert final.choices[0].finish_reason == "tool_calls"


def test_structured_output(client: openai.OpenAI) -> None:
    class Place(BaseModel):
        name: str

    class Trip(BaseModel):
        places: list[Place]
        days: int

    answer = client.chat.completions.parse(model="sim-small", messages=HELLO, response_format=Trip)
    assert answer.choices[0].message.parsed == Trip(places=[Place(name="text")], days=1)


def test_image_for_a_model_that_cannot_see(client: openai.OpenAI) -> None:
    url = "data:image/png;base64,AAAA"
    image: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    ]
    seen = client.chat.completions.create(model="sim-medium", messages=image)
    assert seen.usage is not None
    assert seen.usage.prompt_tokens > 85
    with pytest.raises(openai.BadRequestError, match="vision"):
        client.chat.completions.create(model="sim-small", messages=image)


def test_completions(client: openai.OpenAI) -> None:
    plain = client.completions.create(model="sim-small", prompt="hello").choices[0].text
    stream = client.completions.create(model="sim-small", prompt="hello", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == plain


def test_embeddings_as_floats_and_base64(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="sim-embed", input=["a b", "c"])
    floats = client.embeddings.create(
        model="sim-embed", input=["a b", "c"], encoding_format="float"
    )
    assert [len(entry.embedding) for entry in floats.data] == [384, 384]
    assert [e.embedding for e in packed.data] == [e.embedding for e in floats.data]


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="sim-small", input="hello")
    assert answer.output_text.startswith("Right answer")
    assert (answer.status, answer.usage is not None) == ("completed", True)
    with client.responses.stream(model="sim-small", input="hello") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == answer.output_text
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds
    assert kinds[-1] == "response.completed"


def test_responses_tool_call_and_length(client: openai.OpenAI) -> None:
    tool: FunctionToolParam = {
        "type": "function",
        "name": "weather",
        "parameters": PARAMETERS,
        "strict": False,
    }
    with client.responses.stream(
        model="sim-small", input="hello", tools=[tool], tool_choice="required"
    ) as stream:
        kinds = {event.type for event in stream}
        (item,) = stream.get_final_response().output
    assert item.type == "function_call"
    assert json.loads(item.arguments) == {"city": "text", "days": 1}
    assert "response.function_call_arguments.delta" in kinds
    short = client.responses.create(model="sim-small", input="hello", max_output_tokens=3)
    assert short.status == "incomplete"


def test_models(client: openai.OpenAI) -> None:
    assert "sim-small" in [model.id for model in client.models.list()]
    assert client.models.retrieve("sim-small").owned_by == "simulator"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")


def test_azure_client(sim: Simulator) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=sim.url, api_key="k", api_version="2024-10-21", max_retries=0
    ) as azure:
        assert azure.chat.completions.create(model="sim-small", messages=HELLO).model == "sim-small"
    assert sim.requests[0].path.startswith("/openai/deployments/sim-small/chat/completions?")
    assert sim.requests[0].headers["api-key"] == "k"


def test_the_client_retries_after_what_it_is_told(sim: Simulator) -> None:
    with openai.OpenAI(base_url=f"{sim.url}/v1", api_key="sk", max_retries=2) as retrying:
        answer = retrying.chat.completions.create(
            model="sim-small#fail_first=1;status=429;retry_after=0.01", messages=HELLO
        )
    assert answer.model == "sim-small"
    assert [request.status for request in sim.requests] == [429, 200]


def test_behaviour_of_the_whole_process(sim: Simulator, client: openai.OpenAI) -> None:
    sim.behave("status=500", model="sim-s*")
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="sim-small", messages=HELLO)
    sim.mend("sim-s*")
    client.chat.completions.create(model="sim-small", messages=HELLO)
    assert sim.stats["models"]["sim-small"]["answers"] == 1
    sim.reset()
    assert sim.requests == ()


def test_a_client_that_leaves_is_seen(sim: Simulator) -> None:
    connection = connect(sim.url)
    body = {"model": "sim-small#chunk_ms=1000", "stream": True, "messages": HELLO}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    connection.getresponse().read(10)
    assert sim.stats["open_connections"] == 1
    connection.sock.close() if connection.sock else None
    connection.close()
    wait_until(lambda: sim.requests[0].disconnected, "the disconnect is recorded")
    assert sim.stats["open_connections"] == 0


def test_each_chunk_arrives_when_it_is_due(sim: Simulator) -> None:
    connection = connect(sim.url)
    body = {"model": "sim-small#chunks=2;chunk_ms=150", "stream": True, "messages": HELLO}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = connection.getresponse()
    early = response.read1()
    assert early.count(b"data: ") in (1, 2)
    assert (early + response.read()).endswith(b"data: [DONE]\n\n")
    connection.close()


def test_a_large_answer_survives_a_slow_reader(sim: Simulator) -> None:
    body = {"model": "sim-small#oversize=20000000", "messages": HELLO}
    assert len(call(f"{sim.url}/v1/chat/completions", body).body) > 20_000_000


def test_pipelining_on_a_real_socket(sim: Simulator) -> None:
    parts = urlsplit(sim.url)
    request = b"GET /v1/models/sim-small HTTP/1.1\r\nhost: a\r\n\r\n"
    last = request.replace(b"host: a", b"host: a\r\nconnection: close")
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as raw:
        raw.sendall(request * 3 + last)
        received = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 4


def test_own_models() -> None:
    with Simulator([SimulatedModel(name="mine", output_tokens=3)]) as sim:
        listed = call(f"{sim.url}/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["mine"]


def test_a_taken_port_is_told(sim: Simulator) -> None:
    with pytest.raises(OSError, match="in use"), Simulator(port=urlsplit(sim.url).port or 0):
        pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA, tmp_path: Path) -> Iterator[SimulatorProcess]:
    certificate = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    with start_simulator("--tls-cert", str(cert), "--tls-key", str(key)) as process:
        yield process


def test_tls_answers_and_resets(secure: SimulatorProcess, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    url = f"{secure.url}/v1/chat/completions"
    assert url.startswith("https://")
    assert call(url, {"model": "sim-small", "messages": HELLO}, tls=context).status == 200
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 0
    with (
        socket.create_connection(address) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-simulator: reset\r\n\r\n")
        with pytest.raises(ConnectionResetError):  # read below TLS, which may show it as an EOF
            list(iter(lambda: socket.socket.recv(wrapped, 65_536), b""))


def test_the_process_is_steered_over_http(simulator: SimulatorProcess) -> None:
    simulator.reset()
    url = f"{simulator.url}/v1/chat/completions"
    body: dict[str, Any] = {"model": "sim-small", "messages": HELLO}
    simulator.behave("status=429;retry_after=3")
    assert call(url, body).headers["retry-after"] == "3"
    simulator.mend()
    assert call(url, body, headers={"X-Custom": "one"}).status == 200
    assert [request["status"] for request in simulator.requests()] == [429, 200]
    assert simulator.requests()[1]["headers"]["x-custom"] == "one"
    assert simulator.stats()["max_in_flight"] == 1
    simulator.reset()
    assert simulator.requests() == []


def test_models_and_latency_options(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    models.write_text("- {name: slow, time_to_first_token_s: 0.05, tokens_per_second: 1000}")
    with start_simulator(
        "--models", str(models), "--latency", "2", "--port", str(free_port())
    ) as sim:
        answer = call(f"{sim.url}/v1/chat/completions", {"model": "slow", "messages": HELLO})
    assert answer.status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_cleanly(number: signal.Signals) -> None:
    with start_simulator() as process:
        process.signal(number)
        assert process.wait(10.0) == 0
        assert process.log() == f"simulator listening on {process.url}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tls-cert", __file__], "--tls-key"),
        (["--tls-cert", __file__, "--tls-key", __file__], "not a pair"),
        (["--models", __file__], "cannot be read"),
        (["--latency", "-1"], "--latency"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
    ],
)
def test_bad_options_are_told(arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "routeiq", "simulate", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode != 0
    assert told in run.stderr
    assert "Traceback" not in run.stderr


def test_write_config_merges_what_is_given(tmp_path: Path) -> None:
    path = write_config(
        tmp_path,
        "http://sim",
        {"fast": "sim-small#chunks=2"},
        general_settings={"x": 1},
        router_settings={"num_retries": 0},
    )
    text = path.read_text()
    assert "openai/sim-small#chunks=2" in text
    assert "master_key: sk-master" in text
    assert "num_retries: 0" in text
