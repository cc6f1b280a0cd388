from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from routeiq.config.access import Access, DeclaredKey
from routeiq.config.model import Config, DeploymentConfig
from routeiq.config.section import RouteIQSection
from routeiq.config.settings import Settings
from routeiq.exceptions import InvalidApiKey, InvalidRequest, PermissionDenied, RequestTooLarge
from routeiq.gateway.artifacts import BASE, Artifacts
from routeiq.gateway.asgi import Message
from routeiq.gateway.runtime import Runtime, build
from routeiq.gateway.small_body import MAX_BYTES
from tests.support.artifacts import tiny_artifact
from tests.support.clock import FakeClock
from tests.support.routing import request

pytestmark = pytest.mark.anyio
KEY = "sk-master"
PLAIN = "sk-plain-key-00001"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return tmp_path / "models"


@pytest.fixture
def runtime(folder: Path, clock: FakeClock) -> Runtime:
    folder.mkdir()
    deployments = tuple(
        DeploymentConfig(
            key=f"model_list[{name}]",
            id=name,
            group=name,
            model=f"openai/{name}",
            api_base="http://127.0.0.1:9/v1",
            api_key="sk-upstream",
        )
        for name in ("model-0", "model-1")
    )
    settings = Settings(models_path=str(folder), strategy="knn")
    section = RouteIQSection(access=Access(keys={"plain": DeclaredKey(key=PLAIN)}))
    config = Config(settings=settings, deployments=deployments, master_key=KEY, routeiq=section)
    return build(config, clock=clock)


async def ask(
    runtime: Runtime, path: str, body: Any = None, *, key: str = KEY, method: str = "POST"
) -> tuple[int, Any]:
    sent: list[Message] = []
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    async def receive() -> Message:
        return {"type": "http.request", "body": raw}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {key}".encode())]
    scope = {"headers": headers, "request_id": "req", "path": BASE + path}
    await Artifacts(runtime).routes()[BASE + path][method](scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def stage(runtime: Runtime, name: str) -> str:
    status, answer = await ask(runtime, "/stage", {"folder": name})
    assert status == 201
    version: str = answer["version"]
    return version


async def test_from_staging_to_serving_and_back(runtime: Runtime, folder: Path) -> None:
    tiny_artifact(folder / "one", "knn")
    tiny_artifact(folder / "two", "knn", seed=1)
    versions = [await stage(runtime, name) for name in ("one", "two")]
    asked = request()
    assert "prior, no trained artifact" in runtime.router.decide(asked).reason
    for version in versions:
        promoted = await ask(runtime, "/promote", {"strategy": "knn", "version": version[:10]})
        assert promoted[0] == 200
        assert (promoted[1]["strategy"], promoted[1]["version"]) == ("knn", version)
        assert version[:12] in runtime.router.decide(request()).reason
    _, listed = await ask(runtime, "", method="GET")
    assert {one["version"]: one["state"] for one in listed["data"]} == {
        versions[0]: "previous",
        versions[1]: "active",
    }
    assert listed["status"]["reloads"] == 2
    assert listed["strategies"]["knn"]["artifact"] == versions[1]
    back = await ask(runtime, "/rollback", {"strategy": "knn"})
    assert (back[0], back[1]["version"]) == (200, versions[0])
    assert versions[0][:12] in runtime.router.decide(request()).reason


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/stage", {}, "`folder` must be a non-empty string"),
        ("/stage", {"folder": 7}, "`folder` must be"),
        ("/stage", {"folder": ".."}, "inside ROUTEIQ_MODELS_PATH"),
        ("/stage", {"folder": "/etc"}, "inside ROUTEIQ_MODELS_PATH"),
        ("/stage", {"folder": "a\x00b"}, "inside ROUTEIQ_MODELS_PATH"),
        ("/stage", {"folder": "x" * 5000}, "ROUTEIQ_MODELS_PATH|not an artifact"),
        ("/stage", {"folder": "nothing"}, "is not an artifact"),
        ("/promote", {"strategy": "knn"}, "`version` must be"),
        ("/promote", {"version": "a"}, "`strategy` must be"),
        ("/promote", {"strategy": "knn", "version": "0" * 32}, "version"),
        ("/promote", {"strategy": "knn", "version": "../../etc"}, "version"),
        ("/rollback", {}, "`strategy` must be"),
        ("/rollback", {"strategy": "knn"}, "nothing"),
        ("/rollback", {"strategy": "../knn"}, "nothing"),
        ("/rollback", [], "must be a JSON object"),
    ],
)
async def test_mistakes_are_told_and_change_nothing(
    runtime: Runtime, folder: Path, path: str, body: Any, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        await ask(runtime, path, body)
    assert not (folder / "active.json").exists()


async def test_an_artifact_that_no_strategy_can_serve_is_not_staged(
    runtime: Runtime, folder: Path
) -> None:
    tiny_artifact(folder / "one", "knn")
    weights = folder / "one" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InvalidRequest, match="safetensors"):
        await ask(runtime, "/stage", {"folder": "one"})
    assert (await ask(runtime, "", method="GET"))[1]["data"] == []


@pytest.mark.parametrize(
    ("path", "method"), [("", "GET")] + [(p, "POST") for p in ("/stage", "/promote", "/rollback")]
)
async def test_only_admins_may(runtime: Runtime, path: str, method: str) -> None:
    with pytest.raises(InvalidApiKey):
        await ask(runtime, path, {}, key="sk-other", method=method)
    permission = "artifacts.read" if method == "GET" else "artifacts.write"
    with pytest.raises(PermissionDenied, match=permission):
        await ask(runtime, path, {}, key=PLAIN, method=method)


async def test_large_bodies_are_refused(runtime: Runtime) -> None:
    with pytest.raises(RequestTooLarge):
        await ask(runtime, "/stage", {"folder": "x" * MAX_BYTES})
