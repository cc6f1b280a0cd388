from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routeiq.simulator import CATALOGUE
from routeiq.simulator.app import App
from routeiq.simulator.record import ReceivedRequest
from routeiq.simulator.replies import Reply
from tests.support.clock import FakeClock

HELLO = [{"role": "user", "content": "hello"}]
FIELD_NAMES = """
    messages input prompt content role tools tool_choice type text function name parameters
    response_format stream stream_options items json_schema schema enum properties anyOf $ref
    dimensions max_tokens
"""
FIELDS = st.sampled_from(FIELD_NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def app() -> App:
    return App(CATALOGUE, 0.0, FakeClock())


def ask(
    app: App, path: str, body: Any = None, *, method: str = "", header: str | None = None
) -> Reply:
    request = ReceivedRequest(method=method or ("GET" if body is None else "POST"), path=path)
    request.body = b"" if body is None else json.dumps(body).encode()
    if header is not None:
        request.raw_headers.append((b"X-Simulator", header.encode()))
    return app.answer(request)[0]


def chat(app: App, model: str = "sim-small", header: str | None = None, **fields: Any) -> Reply:
    body = {"model": model, "messages": HELLO, **fields}
    return ask(app, "/v1/chat/completions", body, header=header)


def loads(reply: Reply) -> Any:
    return json.loads(b"".join(reply.pieces))


@pytest.mark.parametrize(
    "path",
    [
        "/chat/completions",
        "/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/v1/chat/completions?a=b",
    ],
)
def test_routes_with_and_without_prefix(app: App, path: str) -> None:
    assert ask(app, path, {"model": "sim-small", "messages": HELLO}).status == 200


def test_azure_takes_the_model_from_the_path(app: App) -> None:
    path = "/openai/deployments/sim-large/chat/completions?api-version=2024-10-21"
    assert loads(ask(app, path, {"messages": HELLO}))["model"] == "sim-large"
    steered = path.replace("sim-large", "sim-large%23status=503")
    assert ask(app, steered, {"messages": HELLO}).status == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        (
            "POST",
            "/v1/chat/completions",
            {"model": "gpt", "messages": HELLO},
            404,
            "model_not_found",
        ),
        ("POST", "/v1/chat/completions", {"messages": HELLO}, 400, None),
        ("POST", "/v1/chat/completions", {"model": "sim-embed", "messages": HELLO}, 400, None),
        ("POST", "/v1/embeddings", {"model": "sim-small", "input": "a"}, 400, None),
        ("POST", "/v1/chat/completions", [], 400, None),
        ("GET", "/v1/chat/completions", None, 405, None),
        ("GET", "/v1/models/gpt", None, 404, "model_not_found"),
        ("POST", "/v1/models", {}, 404, None),
        ("GET", "/v1/nothing", None, 404, None),
        ("GET", "/_simulator/nothing", None, 404, None),
    ],
)
def test_errors_have_openais_shape(
    app: App, method: str, path: str, body: Any, status: int, code: str | None
) -> None:
    reply = ask(app, path, body, method=method)
    error = loads(reply)["error"]
    assert (reply.status, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}


def test_invalid_json_is_400(app: App) -> None:
    request = ReceivedRequest(method="POST", path="/v1/completions", body=b'{"model": ')
    assert app.answer(request)[0].status == 400


@given(
    path=st.sampled_from(["chat/completions", "completions", "embeddings", "responses"]), body=JSON
)
def test_any_json_gets_an_answer_or_an_error_of_openais_shape(path: str, body: Any) -> None:
    app = App(CATALOGUE, 0.0, FakeClock())
    name = "sim-embed" if path == "embeddings" else "sim-large"
    reply = ask(
        app, f"/{path}", {**body, "model": name} if isinstance(body, dict) else body, method="POST"
    )
    assert reply.status == 200 or set(loads(reply)["error"]) == {"message", "type", "param", "code"}


def test_models_are_listed_and_shown(app: App) -> None:
    assert [m["id"] for m in loads(ask(app, "/models"))["data"]] == [m.name for m in CATALOGUE]
    assert loads(ask(app, "/v1/models/sim-nano"))["id"] == "sim-nano"


def test_quality_and_cost_are_in_headers_and_stats(app: App) -> None:
    reply = chat(app)
    assert "x-simulator-quality: 1\r\n" in reply.headers
    usage = loads(reply)["usage"]
    cost = (usage["prompt_tokens"] * 0.15 + usage["completion_tokens"] * 0.6) / 1e6
    assert f"x-simulator-cost-usd: {cost:.9f}\r\n" in reply.headers
    served = app.stats()["models"]["sim-small"]
    assert served == {"answers": 1, "right": 1, "cost_usd": pytest.approx(cost)}


def test_ids_differ_and_time_is_the_clocks(app: App) -> None:
    first, second = loads(chat(app)), loads(chat(app))
    assert first["id"] != second["id"]
    assert first["created"] == 1_800_000_000


def test_header_wins_over_suffix_and_suffix_over_rule(app: App) -> None:
    app.behave("status=500")
    assert chat(app).status == 500
    assert chat(app, "sim-small#status=502").status == 502
    assert chat(app, "sim-small#status=502", header="status=503").status == 503


def test_a_rule_applies_to_models_that_match_until_mended(app: App) -> None:
    rule = {"model": "sim-s*", "behaviour": "status=500"}
    assert ask(app, "/_simulator/behaviour", rule).status == 200
    assert (chat(app).status, chat(app, "sim-large").status) == (500, 200)
    ask(app, "/_simulator/behaviour", {"model": "sim-s*"}, method="DELETE")
    assert chat(app).status == 200


def test_a_rule_for_everything_breaks_the_listing_too(app: App) -> None:
    app.behave("status=500")
    assert ask(app, "/v1/models").status == 500
    ask(app, "/_simulator/behaviour", method="DELETE")
    assert ask(app, "/v1/models").status == 200


def test_a_bad_rule_is_refused_and_not_kept(app: App) -> None:
    assert ask(app, "/_simulator/behaviour", {"behaviour": "explode"}).status == 400
    assert app.rules == {}


def test_fail_first_counts_by_key_and_else_by_model(app: App) -> None:
    assert [chat(app, "sim-small#fail_first=2").status for _ in range(4)] == [500, 500, 200, 200]
    assert chat(app, "sim-large#fail_first=2").status == 500
    one, two = (chat(app, header=f"fail_first=1;key={key}").status for key in ("a", "b"))
    assert (one, two) == (500, 500)
    app.reset()
    assert chat(app, "sim-small#fail_first=2").status == 500


def test_what_was_received_is_recorded_and_admin_calls_are_not(app: App) -> None:
    chat(app)
    shown = loads(ask(app, "/_simulator/requests"))
    assert [(r["method"], r["json"]["model"]) for r in shown] == [("POST", "sim-small")]
    ask(app, "/_simulator/requests", method="DELETE")
    assert loads(ask(app, "/_simulator/requests")) == []


def test_usage_comes_last_in_a_stream_that_asked_for_it(app: App) -> None:
    events = chat(app, stream=True, stream_options={"include_usage": True}).pieces
    chunks = [json.loads(event[6:]) for event in events[:-1]]
    assert events[-1] == b"data: [DONE]\n\n"
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("fields", [{}, {"stream_options": {"include_usage": False}}])
def test_a_stream_that_did_not_ask_has_no_usage(app: App, fields: dict[str, Any]) -> None:
    assert b"usage" not in b"".join(chat(app, stream=True, **fields).pieces)


def test_latency_scales_the_models_speed() -> None:
    app = App(CATALOGUE, 0.5, FakeClock())
    plain, stream = chat(app), chat(app, stream=True)
    tokens = loads(plain)["usage"]["completion_tokens"]
    assert plain.wait_s == pytest.approx(0.5 * (0.2 + tokens / 140))
    assert stream.first_s == pytest.approx(0.1)
    assert stream.gap_s == pytest.approx(0.5 / 140)


def test_without_latency_nothing_waits(app: App) -> None:
    assert (chat(app).wait_s, chat(app, stream=True).gap_s) == (0.0, None)
    steered = chat(app, "sim-small#ttft_ms=5;chunk_ms=0", stream=True)
    assert (steered.first_s, steered.gap_s) == (0.005, 0.0)
