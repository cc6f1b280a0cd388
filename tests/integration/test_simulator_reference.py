"""docs/reference/simulator.md is executed: every behaviour's row, and the example models."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from routeiq.simulator import CATALOGUE, Behaviour, Simulator, load_models
from tests.support.http import call, connect

PAGE = (Path(__file__).parents[2] / "docs/reference/simulator.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| `(\w+)` \| [^|]+ \| `([^`]+)` \| (plain|stream) \| ([^|]+) \|$", re.MULTILINE
)
ROWS = ROW.findall(PAGE)
HANG_MS = 200


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


class Seen:
    """What a client saw of one answer, as the words that the page uses for it."""

    def __init__(self, url: str, behaviour: str, *, stream: bool) -> None:
        body = {"model": f"sim-small#{behaviour}", "stream": stream, "messages": [user("hello")]}
        connection = connect(url, timeout=HANG_MS / 1000 if "hang" in behaviour else 10.0)
        started = time.perf_counter()
        self.facts: set[str] = set()
        self.body = b""
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body))
            self._read(connection.getresponse())
        except TimeoutError:
            self.facts.add(f"nothing for {HANG_MS} ms")
        except ConnectionResetError as error:
            closed = isinstance(error, http.client.RemoteDisconnected)
            self.facts.add("connection closed" if closed else "connection reset")
        finally:
            connection.close()
        self.ms = (time.perf_counter() - started) * 1000

    def _read(self, response: http.client.HTTPResponse) -> None:
        self.facts.add(f"status {response.status}")
        for name, value in response.getheaders():
            self.facts.add(f"{name}: {value.split(';')[0]}")
        cut = ""
        try:
            self.body = response.read()
        except http.client.IncompleteRead as error:
            self.body, cut = error.partial, "cut short after "
        if response.getheader("content-encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        self.facts.add(f"{cut}{len(self.body)} bytes")
        self.facts.add(f"{cut}{self.body.count(b'data: ')} events")
        try:
            self._read_json(json.loads(self.body))
        except ValueError:
            self.facts.add("invalid JSON")

    def _read_json(self, body: Any) -> None:
        self.facts.add("valid JSON")
        if "error" in body:
            self.facts.add(f"code {body['error']['code']}")
            return
        self.facts.add(f"finish_reason {body['choices'][0]['finish_reason']}")
        usage = body.get("usage")
        self.facts.add(f"{usage['completion_tokens']} output tokens" if usage else "no usage")

    def has(self, fact: str) -> bool:
        if found := re.fullmatch(r"after (\d+) ms", fact):
            return self.ms >= int(found[1])
        if found := re.fullmatch(r"at least (\d+) bytes", fact):
            return len(self.body) >= int(found[1])
        return fact in self.facts


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_every_behaviour_has_a_row() -> None:
    assert {name for name, *_ in ROWS} == {field.name for field in fields(Behaviour)}


@pytest.mark.parametrize(("name", "example", "kind", "seen"), ROWS, ids=[row[1] for row in ROWS])
def test_the_client_sees_what_the_page_says(
    sim: Simulator, name: str, example: str, kind: str, seen: str
) -> None:
    assert name in example
    stages = seen.strip().split("; then ")
    for stage in stages:
        got = Seen(sim.url, example, stream=kind == "stream")
        missing = [fact for fact in stage.split("; ") if not got.has(fact)]
        assert missing == [], got.facts


def test_the_example_models_load(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(PAGE.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    coder, embedder = load_models(path)
    assert (coder.name, coder.context_tokens) == ("my-coder", 32_000)
    assert embedder.embedding_dimensions == 8


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PAGE.split("```python\n")[1].split("```")[0], "simulator.md", "exec"), {})
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_the_table_of_models_is_the_catalogue() -> None:
    for model in CATALOGUE:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{model.name}` |"))
        assert f"{model.context_tokens:,}" in row
        assert f"{model.input_usd_per_mtok:.2f} / " in row
        if model.embedding_dimensions is None:
            shares = [
                f"{model.quality[d]:.0%}".replace("%", " %") for d in ("easy", "medium", "hard")
            ]
            assert ", ".join(shares) in row


@pytest.mark.parametrize(
    "listed", re.findall(r"^\| `([A-Z]+) (/_simulator/\w+)`", PAGE, re.MULTILINE)
)
def test_the_admin_routes_exist(sim: Simulator, listed: tuple[str, str]) -> None:
    method, path = listed
    body = {"model": "none", "behaviour": "close"} if method == "POST" else None
    assert call(sim.url + path, body, method=method).status == 200
