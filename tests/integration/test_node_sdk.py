"""The official Node client: tests/node/sdk.mjs drives the gateway and prints what it saw."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import MASTER_KEY, Gateway

FOLDER = Path(__file__).parents[1] / "node"


@pytest.fixture(scope="module")
def node() -> str:
    """The interpreter, with the client installed."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        pytest.skip("Node is not installed")
    if not (FOLDER / "node_modules" / ".package-lock.json").exists():
        command = [npm, "ci", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=FOLDER, check=True, timeout=50)
    return found


def test_the_node_client_sees_what_it_expects(node: str, gateway: Gateway) -> None:
    done = subprocess.run(
        [node, "sdk.mjs", gateway.url, MASTER_KEY, "sim-small"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert "answer by sim-small" in seen["plain"]
    assert seen["usage"]["completion_tokens"] == 24
    assert seen["model"] == "sim-small"
    assert seen["streamed"] == seen["plain"]
    assert seen["usageSeen"] is False
    assert seen["streamUsage"]["completion_tokens"] == 24
    assert seen["tool"] == "get_weather"
    assert {"auto", "sim-small"} <= set(seen["models"])
    error = seen["error"]
    assert (error["status"], error["code"], error["type"]) == (
        404,
        "model_not_found",
        "NotFoundError",
    )
    assert error["requestID"]
