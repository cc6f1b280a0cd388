from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from routeiq.cli import admin_reload as module
from routeiq.cli.admin import admin
from routeiq.cli.admin_api import AdminApi, AdminApiError

DIGEST = "d" * 64


class Fleet:
    """The admin API of a gateway whose workers take a new configuration one look after the other."""

    def __init__(self, *looks: list[str]) -> None:
        self.looks = list(looks)
        self.calls: list[tuple[str, str]] = []
        self.now = 0.0
        self.refused: AdminApiError | None = None

    def call(self, api: AdminApi, method: str, path: str) -> Any:
        self.calls.append((method, path))
        if method == "POST":
            if self.refused is not None:
                raise self.refused
            return {"digest": DIGEST, "source": "/app/config.yaml"}
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"data": [{"id": f"w{n}", "config": config} for n, config in enumerate(look)]}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
        monkeypatch.setattr(AdminApi, "call", lambda api, *asked: self.call(api, *asked))
        monkeypatch.setattr("routeiq.cli.admin_reload.time.monotonic", lambda: self.now)
        monkeypatch.setattr("routeiq.cli.admin_reload.time.sleep", self.sleep)
        return CliRunner().invoke(admin, ["reload", *arguments])


def test_it_waits_until_all_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(["old", "old"], [DIGEST, "old"], [DIGEST, DIGEST])
    result = fleet.run(monkeypatch)
    assert result.exit_code == 0
    assert result.stdout == f"/app/config.yaml is in force ({DIGEST[:12]}), 2 workers.\n"
    assert fleet.calls == [("POST", "/config/reload"), *[("GET", "/workers")] * 3]
    assert fleet.now == pytest.approx(2 * module.POLL_S)


@pytest.mark.parametrize("wait", ["0", "1"])
def test_it_names_who_has_it_not_when_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    fleet = Fleet([DIGEST, "old"])
    result = fleet.run(monkeypatch, "--wait", wait)
    assert result.exit_code == 1
    assert result.stderr == "not yet: w1\n"
    assert fleet.now == pytest.approx(float(wait), abs=module.POLL_S)


@pytest.mark.parametrize(("second", "code"), [(DIGEST, 0), ("old", 1)])
def test_as_json(monkeypatch: pytest.MonkeyPatch, second: str, code: int) -> None:
    result = Fleet([DIGEST, second]).run(monkeypatch, "--json", "--wait", "0")
    assert result.exit_code == code
    assert json.loads(result.stdout) == {
        "digest": DIGEST,
        "source": "/app/config.yaml",
        "workers": 2,
        "behind": ["w1"] if code else [],
    }


def test_a_configuration_that_is_refused_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet([DIGEST])
    fleet.refused = AdminApiError("routeiq.nope: is not a known key.", status=400)
    result = fleet.run(monkeypatch)
    assert result.exit_code == 1
    assert "is not a known key" in result.stderr
    assert len(fleet.calls) == 1
