"""A provider that says what the test tells it to, model by model, and counts what it is asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
INPUT_USD, OUTPUT_USD = 1e-6, 10e-6
COST_USD = USAGE["prompt_tokens"] * INPUT_USD + USAGE["completion_tokens"] * OUTPUT_USD
"""One answer of a model whose price factor is 1."""


class Provider:
    """`says` maps a model to its answer: a text, or a status to fail with. `asked` has the bodies, in order."""

    def __init__(self) -> None:
        self.says: dict[str, str | int] = {}
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    def models_asked(self) -> list[str]:
        """Who was asked, in order."""
        return [body["model"] for body in self.asked]

    def expect(self, says: Mapping[str, str | int]) -> None:
        """Say this from now on, and forget what was asked."""
        self.says = dict(says)
        self.asked = []

    def entry(self, name: str, factor: float, quality: float) -> dict[str, Any]:
        """An entry of `model_list`; it costs `factor` times `COST_USD` an answer."""
        return {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"{self.url}/v1",
                "api_key": "sk-provider",
            },
            "model_info": {
                "id": name,
                "mode": "chat",
                "input_cost_per_token": INPUT_USD * factor,
                "output_cost_per_token": OUTPUT_USD * factor,
                "max_input_tokens": 100_000,
                "routeiq": {
                    "quality": quality,
                    "capabilities": ["tools", "json_object", "json_schema"],
                },
            },
        }

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        self.asked.append(body)
        said = self.says[body["model"]]
        if isinstance(said, int):
            error = {"message": "no", "type": "server_error", "code": None, "param": None}
            return said, "application/json", json.dumps({"error": error}).encode()
        base = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if body.get("stream"):
            choice = {"index": 0, "delta": {"content": said}, "finish_reason": "stop"}
            chunk = {**base, "object": "chat.completion.chunk", "choices": [choice]}
            events = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
            return 200, "text/event-stream", events.encode()
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE}
        return 200, "application/json", json.dumps(whole).encode()


@contextlib.contextmanager
def scripted_provider() -> Iterator[Provider]:
    """A provider on a free port of the loopback address."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            status, kind, body = provider.answer(json.loads(self.rfile.read(length)))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
