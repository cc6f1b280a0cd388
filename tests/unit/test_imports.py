"""What importing costs: a cold `import routeiq` and `routeiq --help` pull in nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "litellm",
    "numpy",
    "torch",
    "starlette",
    "fastapi",
    "uvicorn",
    "httpx",
    "aiohttp",
    "pydantic",
    "yaml",
}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(m.split('.')[0] for m in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import routeiq",
        "from click.testing import CliRunner; from routeiq.cli.main import group; "
        "assert CliRunner().invoke(group, ['--help']).exit_code == 0",
    ],
    ids=["import", "help"],
)
def test_light_entry_points_load_nothing_heavy(code: str) -> None:
    assert HEAVY & modules_after(code) == set()


def test_the_gateway_loads_no_litellm_numpy_or_web_framework() -> None:
    loaded = modules_after("import routeiq.gateway.app, routeiq.gateway.runtime")
    assert {"litellm", "numpy", "torch", "starlette", "fastapi", "httpx"} & loaded == set()
