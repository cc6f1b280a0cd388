"""The official Python client against one worker and against four."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel

from tests.integration.conftest import StartGateway
from tests.integration.helpers import TOOL, catalogue, get, user
from tests.support.http import call
from tests.support.processes import MASTER_KEY, Gateway, SimulatorProcess

MODEL = "sim-medium"
MESSAGES: Any = [user("Say hello.")]
TOOLS: Any = [TOOL]
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


@pytest.fixture(scope="module", params=[1, 4], ids=["1-worker", "4-workers"])
def served(
    request: pytest.FixtureRequest, start: StartGateway, simulator: SimulatorProcess
) -> Gateway:
    return start({"model_list": catalogue(simulator.url)}, workers=request.param)


@pytest.fixture
def client(served: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=MASTER_KEY, max_retries=0) as made:
        yield made


def record(gateway: Gateway, decision_id: str) -> dict[str, Any]:
    """The decision's record, from the worker that made it: asked until that one answers."""
    for _ in range(200):
        answer = get(gateway, f"/routeiq/v1/decisions/{decision_id}")
        if answer.status == 200:
            found: dict[str, Any] = answer.json()
            return found
    raise AssertionError(f"no worker knows {decision_id}")


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert "answer by sim-medium" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 24


def test_raw_response_has_the_headers(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    assert raw.headers["x-routeiq-model"] == MODEL
    assert raw.headers["x-routeiq-attempts"] == "1"
    assert raw.request_id == raw.headers["x-request-id"]
    usage = raw.parse().usage
    assert usage is not None
    cost = (usage.prompt_tokens * 0.8 + usage.completion_tokens * 3.2) / 1e6
    assert float(raw.headers["x-routeiq-cost-usd"]) == pytest.approx(cost, abs=1e-12)


def test_stream_without_usage_still_has_its_cost_recorded(
    served: Gateway, client: OpenAI, sim: SimulatorProcess
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, stream=True
    ) as raw:
        decision_id = raw.headers["x-routeiq-decision-id"]
        chunks = list(raw.parse())
    assert "answer by sim-medium" in text_of(chunks)
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert all(chunk.choices for chunk in chunks), "the usage chunk came through"
    kept = record(served, decision_id)
    assert (kept["output_tokens"], kept["outcome"]) == (24, "success")
    assert kept["cost_usd"] == pytest.approx(kept["input_tokens"] * 0.8e-6 + 24 * 3.2e-6, rel=1e-12)
    (asked,) = sim.requests()
    assert asked["json"]["stream_options"] == {"include_usage": True}


def test_stream_with_usage_ends_with_it(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 24
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_tools(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice="required"
    )
    (made,) = answer.choices[0].message.tool_calls or []
    assert made.type == "function"
    assert made.function.name == "get_weather"
    assert json.loads(made.function.arguments) == {"city": "text"}
    assert answer.choices[0].finish_reason == "tool_calls"


def test_tools_streamed(client: OpenAI) -> None:
    name, arguments = "", ""
    for chunk in client.chat.completions.create(
        model=MODEL, messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=True
    ):
        for made in chunk.choices[0].delta.tool_calls or []:
            assert made.function is not None
            name += made.function.name or ""
            arguments += made.function.arguments or ""
    assert (name, json.loads(arguments)) == ("get_weather", {"city": "text"})


def test_a_tools_result_goes_back(client: OpenAI) -> None:
    called = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": "{}"},
    }
    messages: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content


def test_images_in_content(client: OpenAI, sim: SimulatorProcess) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    messages: Any = [user(content)]
    answer = client.chat.completions.create(model=MODEL, messages=messages)
    assert answer.choices[0].message.content
    (asked,) = sim.requests()
    assert asked["json"]["messages"] == messages


class City(BaseModel):
    name: str
    inhabitants: int


def test_json_schema(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=City)
    assert answer.choices[0].message.parsed == City(name="text", inhabitants=1)


def test_embeddings_as_the_client_asks_for_them(client: OpenAI) -> None:
    """Without `encoding_format` the client asks for base64 and decodes it."""
    answer = client.embeddings.create(model="sim-embed", input=["alpha beta", "gamma"])
    assert [len(one.embedding) for one in answer.data] == [384, 384]
    plain = client.embeddings.create(
        model="sim-embed", input="alpha beta", encoding_format="float", dimensions=16
    )
    assert len(plain.data[0].embedding) == 16
    assert plain.usage.prompt_tokens > 0


def test_responses(client: OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Say hello.", instructions="Be brief.")
    assert "answer by sim-medium" in answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens == 24


def test_responses_streamed_are_accounted(served: Gateway, client: OpenAI) -> None:
    with client.responses.with_streaming_response.create(
        model=MODEL, input="Say hello.", stream=True
    ) as raw:
        decision_id = raw.headers["x-routeiq-decision-id"]
        events = list(raw.parse())
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "answer by sim-medium" in "".join(deltas)
    assert events[-1].type == "response.completed"
    kept = record(served, decision_id)
    assert (kept["operation"], kept["output_tokens"]) == ("responses", 24)
    assert kept["cost_usd"] == pytest.approx(kept["input_tokens"] * 0.8e-6 + 24 * 3.2e-6, rel=1e-12)


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Say hello.")
    assert "answer by sim-medium" in answer.choices[0].text
    streamed = client.completions.create(model=MODEL, prompt="Say hello.", stream=True)
    assert "answer by sim-medium" in "".join(one.choices[0].text for one in streamed)


def test_models(client: OpenAI) -> None:
    listed = [one.id for one in client.models.list()]
    assert {"auto", "sim-small", "sim-embed"} <= set(listed)
    assert client.models.retrieve("sim-small").id == "sim-small"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("no-such-model")
    assert missing.value.code == "model_not_found"


def test_errors_become_the_clients_exceptions(served: Gateway, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=[])
    assert bad.value.param == "messages"
    with (
        OpenAI(base_url=f"{served.url}/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


@pytest.mark.anyio
async def test_async_client(served: Gateway) -> None:
    async with AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key=MASTER_KEY, max_retries=0
    ) as client:
        plain = await client.chat.completions.create(model="auto", messages=MESSAGES)
        assert plain.choices[0].message.content
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "answer by sim-medium" in text_of(chunks)
        vectors = await client.embeddings.create(model="sim-embed", input="alpha")
        assert len(vectors.data[0].embedding) == 384
        answer = await client.responses.create(model=MODEL, input="Say hello.")
        assert answer.output_text
        listed = [one.id async for one in client.models.list()]
        assert "auto" in listed


def test_azures_way_to_send_the_key(served: Gateway) -> None:
    for name in ("api-key", "x-api-key"):
        answer = call(f"{served.url}/v1/models", headers={name: MASTER_KEY})
        assert answer.status == 200


def test_four_workers_share_the_port(served: Gateway, request: pytest.FixtureRequest) -> None:
    workers = request.node.callspec.params["served"]
    seen = {
        call(
            f"{served.url}/routeiq/v1/status", headers={"authorization": f"Bearer {MASTER_KEY}"}
        ).json()["worker_id"]
        for _ in range(60)
    }
    assert (len(seen) > 1) == (workers > 1)
    assert len(seen) <= workers
