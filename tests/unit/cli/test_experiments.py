from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from routeiq.cli.experiments import experiments
from routeiq.config.experiments import Experiment
from routeiq.experiments.definitions import merge
from routeiq.experiments.results import report
from tests.unit.experiments.helpers import AB, experiment

ONE = {
    "name": "e",
    "state": "running",
    "source": "api",
    "share": 0.5,
    "stopped": {"candidate": {"at": 1, "why": "w"}},
    "definition": {"variants": AB},
}


class Gateway:
    """Answers what a test says; knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answer: Any = ONE

    def __call__(self, url: str, key: str | None) -> Gateway:
        assert (url, key) == ("http://127.0.0.1:4000", "sk-admin")
        return self

    def call(self, method: str, path: str, body: Any = None, if_match: int | None = None) -> Any:
        self.asked.append((method, path, body))
        return self.answer


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    found = Gateway()
    monkeypatch.setattr("routeiq.cli.experiments.AdminApi", found)
    return found


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(experiments, [*arguments, "--admin-key", "sk-admin"])
    assert result.exit_code == code, result.output
    return result


def test_list_shows_state_traffic_and_stopped_variants(gateway: Gateway) -> None:
    gateway.answer = {"data": [ONE], "problems": ["routeiq.experiments.x: wrong"], "version": 1}
    result = run("list")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "state", "source", "traffic", "variants"]
    assert lines[1].split(maxsplit=4) == [
        "e",
        "running",
        "api",
        "50.0%",
        "control, candidate (stopped)",
    ]
    assert result.stderr == "warning: routeiq.experiments.x: wrong\n"
    assert gateway.asked == [("GET", "/experiments", None)]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("show", "e"), ("GET", "/experiments/e", None)),
        (("show", "a/b"), ("GET", "/experiments/a%2Fb", None)),
        (("start", "e"), ("POST", "/experiments/e/start", None)),
        (("stop", "e"), ("POST", "/experiments/e/stop", None)),
        (("reset", "e"), ("POST", "/experiments/e/reset", None)),
        (("delete", "e"), ("DELETE", "/experiments/e", None)),
    ],
)
def test_what_is_asked(
    gateway: Gateway, arguments: tuple[str, ...], asked: tuple[str, str, Any]
) -> None:
    run(*arguments)
    assert json.loads(run(*arguments, "--json").stdout) == ONE
    assert gateway.asked == [asked, asked]


def test_create_sends_what_stands_in_the_file(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(
        "variants: {control: {}, candidate: {strategy: knn}}\nstart: 2030-01-01T00:00:00Z\n"
    )
    assert run("create", "e", "-f", str(file)).stdout == "e: running, 50.0% of its traffic\n"
    run("create", "e", "-f", str(file), "--replace")
    sent = {"variants": AB, "start": "2030-01-01T00:00:00+00:00"}
    assert gateway.asked == [
        ("POST", "/experiments", {**sent, "name": "e"}),
        ("PUT", "/experiments/e", sent),
    ]
    assert Experiment.model_validate(sent).start is not None


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_a_file_that_is_no_experiment_is_refused(
    gateway: Gateway, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(text)
    assert "e.yaml" in run("create", "e", "-f", str(file), code=1).stderr
    assert gateway.asked == []


def answered(fields: dict[str, int], document: dict[str, Any], **more: Any) -> Any:
    definition = merge({"e": experiment(**more)}, document)[0]["e"]
    return json.loads(json.dumps(report(definition, fields, 1.0)))


def test_results_say_what_is_significant(gateway: Gateway) -> None:
    fields = {"control:requests": 2000, "control:ended": 2000, "control:errors": 10}
    fields |= {"candidate:requests": 2100, "candidate:ended": 2100, "candidate:errors": 300}
    gateway.answer = answered(fields, {"stopped": {"e": {"candidate": {"why": "too bad"}}}})
    lines = run("results", "e", "--confidence", "0.99").stdout.splitlines()
    assert gateway.asked == [("GET", "/experiments/e/results?confidence=0.99", None)]
    assert lines[1].split()[:4] == ["control", "2000", "48.78%", "50.00%"]
    assert lines[3].startswith("candidate - control: error_rate +0.1379 [+0.1")
    assert lines[4] == "candidate was stopped by a guard: too bad"


def test_results_say_where_nothing_is_known(gateway: Gateway) -> None:
    gateway.answer = answered({}, {}, subject=("key",))
    lines = run("results", "e").stdout.splitlines()
    assert lines[1].split() == ["control", "0", "-", "50.00%", "-", "-", "-", "-"]
    assert lines[3] == "candidate - control: nothing significant yet"
    assert "independent" in lines[4]


def test_results_warn_of_a_wrong_split(gateway: Gateway) -> None:
    gateway.answer = answered({}, {})
    gateway.answer["split"] |= {"mismatch": True, "p": 0.0001}
    assert "do not trust these figures" in run("results", "e").stdout


def test_results_of_a_shadow_test(gateway: Gateway) -> None:
    fields = {"candidate:requests": 10, "candidate:errors": 2, "candidate:agree": 4}
    gateway.answer = answered(fields, {}, mode="shadow")
    lines = run("results", "e").stdout.splitlines()
    assert lines[1].split() == ["candidate", "10", "2", "50.0%", "-", "-"]
