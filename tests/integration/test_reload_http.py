"""A configuration that changes while requests are answered: every way to say so, what applies, what stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.tools import RawStream, alive, children
from tests.integration.fleet import BASE, Fleet, Line, fleet, one_each
from tests.integration.helpers import assert_error, entry, log_lines
from tests.integration.learned import sample, train
from tests.support.http import Answer
from tests.support.processes import MASTER_KEY, SimulatorProcess, wait_until

pytestmark = pytest.mark.timeout(120)
QUICK = {"ROUTEIQ_HOT_RELOAD": "true", "ROUTEIQ_RELOAD_INTERVAL": "0.2"}
BROKEN: dict[str, Any] = {"routeiq": {"profilez": {}}}
DECLARED = "sk-riq-declared-0123456789abcdef"


@dataclass(slots=True, kw_only=True)
class Served:
    """A gateway of two workers and the file that it reads."""

    path: Path
    sim: SimulatorProcess
    made: Fleet

    @property
    def first(self) -> Line:
        return self.made.first

    def write(self, *models: dict[str, Any], **sections: Any) -> None:
        """Another configuration, put in place at once, as a mounted volume does."""
        compose(self.path, self.sim, *models, **sections)

    def reload(self) -> Answer:
        return self.first.send(f"{BASE}/config/reload", {})

    def applied(self, *models: dict[str, Any], **sections: Any) -> None:
        """Write, reload, and wait until both workers have it."""
        self.write(*models, **sections)
        answer = self.reload()
        assert answer.status == 200, answer.body
        self.arrived(answer.json()["digest"])

    def arrived(self, digest: str) -> None:
        self.made.reaches_all(
            lambda line: line.get("status")["config"]["digest"] == digest, "it is loaded", 10.0
        )

    def has(self, model: str) -> bool:
        """Whether both workers answer for a model, and list it."""
        for line in self.made.lines:
            listed = {one["id"] for one in line.send("/v1/models").json()["data"]}
            status = line.chat(model).status
            assert status in (200, 404, 503)
            if status != 200 or model not in listed:
                return False
        return True


def model(name: str, **info: Any) -> dict[str, Any]:
    """An entry without its place, which `compose` adds."""
    return {"group": name, "info": {"id": name, **info}}


def compose(path: Path, sim: SimulatorProcess, *models: dict[str, Any], **sections: Any) -> None:
    entries = [
        entry(one["group"], sim.url, "sim-small", info=one["info"])
        for one in models or (model("base"),)
    ]
    config = {"general_settings": {"master_key": MASTER_KEY}, "model_list": entries, **sections}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(config))
    os.replace(new, path)


@contextmanager
def serve(folder: Path, sim: SimulatorProcess, **options: Any) -> Iterator[Served]:
    path = folder / "config.yaml"
    compose(path, sim)
    with fleet(path, "sqlite", gateways=1, workers=2, **options) as made:
        yield Served(path=path, sim=sim, made=made)


@pytest.fixture(scope="module")
def module(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Served]:
    """Reloads when told to, not by itself."""
    env = {"ROUTEIQ_RELOAD_INTERVAL": "0.2", "ROUTEIQ_HOT_RELOAD": "false"}
    with serve(tmp_path_factory.mktemp("told"), simulator, env=env) as found:
        yield found


@pytest.fixture
def served(module: Served) -> Served:
    """With the simple configuration in force."""
    module.applied()
    return module


@pytest.fixture(scope="module")
def watching(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess
) -> Iterator[Served]:
    """Reloads by itself."""
    with serve(tmp_path_factory.mktemp("watching"), simulator, env=QUICK) as found:
        yield found


def command(served: Served) -> subprocess.CompletedProcess[str]:
    """`routeiq admin reload`."""
    url = served.made.gateways[0].url
    call = [sys.executable, "-m", "routeiq", "admin", "reload", "--url", url, "--json"]
    return subprocess.run(
        [*call, "--admin-key", MASTER_KEY], capture_output=True, text=True, timeout=60
    )


def by_signal(served: Served) -> None:
    served.made.gateways[0].signal(signal.SIGHUP)


def by_command(served: Served) -> None:
    done = command(served)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["workers"], said["behind"]) == (2, [])


def by_request(served: Served) -> None:
    assert served.reload().status == 200


@pytest.mark.parametrize("way", [by_signal, by_command, by_request])
def test_models_come_and_go(served: Served, way: Callable[[Served], None]) -> None:
    assert not served.has("added")
    served.write(model("base"), model("added"))
    way(served)
    wait_until(lambda: served.has("added"), "both workers serve the new model")
    assert served.has("base")
    served.write(model("added"))
    way(served)
    wait_until(lambda: not served.has("base"), "the removed model is gone")
    wait_until(lambda: all(line.chat("base").status == 404 for line in served.made.lines), "404")
    assert served.has("added")


def test_a_file_is_watched(watching: Served) -> None:
    watching.write(model("base"), model("seen"))
    wait_until(lambda: watching.has("seen"), "the file was read")
    part = watching.path.parent / "part.yaml"
    part.write_text(json.dumps({"routeiq": {"groups": {"both": {"models": ["base"]}}}}))
    watching.write(model("base"), include=["part.yaml"])
    wait_until(lambda: watching.has("both"), "what is included is read")
    part.write_text(json.dumps({"routeiq": {"groups": {"either": {"models": ["base"]}}}}))
    wait_until(lambda: watching.has("either"), "what is included is watched")
    assert not watching.has("both")


def test_a_watched_file_that_is_broken_changes_nothing_and_is_read_again(watching: Served) -> None:
    watching.write(model("base"), model("kept"))
    wait_until(lambda: watching.has("kept"), "it works")
    watching.path.write_text("model_list: [")
    wait_until(
        lambda: all(line.get("status")["reload"]["problems"] for line in watching.made.lines),
        "both workers complain",
    )
    assert watching.has("kept")
    watching.write(model("base"), model("mended"))
    wait_until(lambda: watching.has("mended"), "it is read again")
    assert not watching.first.get("status")["reload"]["problems"]


@pytest.mark.parametrize(
    "env",
    [{"ROUTEIQ_HOT_RELOAD": "false"}, {"ROUTEIQ_HOT_RELOAD": "true"}],
    ids=["off", "long interval"],
)
def test_without_the_setting_or_before_the_interval_nothing_is_read(
    tmp_path: Path, sim: SimulatorProcess, env: dict[str, str]
) -> None:
    interval = "0.1" if env["ROUTEIQ_HOT_RELOAD"] == "false" else "600"
    with serve(tmp_path, sim, env={**env, "ROUTEIQ_RELOAD_INTERVAL": interval}) as found:
        found.write(model("base"), model("added"))
        with pytest.raises(AssertionError, match="it was read"):
            wait_until(lambda: found.has("added"), "it was read", 1.0)
        assert found.first.get("status")["reload"]["reloads"] == 0


def test_prices_limits_keys_and_profiles_apply(served: Served) -> None:
    def cost() -> float:
        return float(served.first.chat("base").headers["x-routeiq-cost-usd"])

    def key_status(**headers: str) -> int:
        mine = {"authorization": f"Bearer {DECLARED}", **headers}
        return served.made.lines[1].chat("auto", headers=mine).status

    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    served.applied(model("base", **price))
    before = cost()
    assert key_status() == 401
    dear = model("base", **{name: value * 10 for name, value in price.items()})
    key = {"key": DECLARED}
    served.applied(dear, routeiq={"access": {"keys": {"mine": key}}})
    assert cost() == pytest.approx(before * 10)
    assert key_status() == 200
    assert key_status(**{"x-routeiq-profile": "frugal"}) == 400
    narrow = {**key, "limits": {"requests_per_minute": 2}}
    section = {"profiles": {"frugal": {"cost_weight": 1e6}}, "access": {"keys": {"mine": narrow}}}
    served.applied(dear, routeiq=section)
    found = [key_status(**{"x-routeiq-profile": "frugal"}) for _ in range(4)]
    assert found == [200, 200, 429, 429]
    served.applied()
    assert key_status() == 401


def test_what_cannot_be_used_is_refused_and_said(served: Served) -> None:
    served.applied(model("base"), model("good"))
    before = [line.get("status") for line in served.made.lines]
    served.write(model("other"), routeiq={"strategy": "rond-robin"})  # well written, and of no use
    assert_error(served.reload(), 400, says="round-robin")
    served.write(model("other"), **BROKEN)
    assert_error(served.reload(), 400, says="profilez")
    validated = served.first.send(f"{BASE}/config/validate", {}).json()
    assert validated["ok"] is False
    assert any("profilez" in one for one in validated["problems"])
    done = command(served)
    assert done.returncode != 0
    assert "profilez" in done.stderr
    by_signal(served)
    wait_until(lambda: all(failed(line) for line in served.made.lines), "both workers refused it")
    for line, old in zip(served.made.lines, before, strict=True):
        now = line.get("status")
        assert now["config"] == old["config"]
        assert any("profilez" in one for one in now["reload"]["problems"])
    logged = [
        one for one in log_lines(served.made.gateways[0]) if "reload refused" in one["message"]
    ]
    assert {one["worker_id"] for one in logged} == {line.pid for line in served.made.lines}
    assert any("profilez" in problem for problem in logged[-1]["problems"])
    assert served.has("good")
    assert not served.has("other")
    served.applied(model("mended"))
    assert served.first.get("status")["reload"]["problems"] == []
    assert served.first.send(f"{BASE}/config/validate", {}).json()["ok"] is True


def failed(line: Line) -> bool:
    return bool(line.get("status")["reload"]["problems"])


def test_only_who_may_can_reload(served: Served) -> None:
    body = {"alias": "reader", "settings": {"permissions": ["config.read"]}}
    secret = served.first.send(f"{BASE}/keys", body).json()["secret"]
    reader = {"authorization": f"Bearer {secret}"}
    before = served.first.get("status")["reload"]["reloads"]
    assert served.first.send(f"{BASE}/config/reload", {}, headers=reader).status == 403
    assert served.first.send(f"{BASE}/config/validate", {}, headers=reader).status == 200
    assert served.first.get("status")["reload"]["reloads"] == before
    assert served.reload().status == 200
    assert served.first.get("audit?limit=1")["data"][0]["action"] == "config.reload"


def test_a_stream_ends_on_the_configuration_that_it_began_on(
    served: Served, sim: SimulatorProcess
) -> None:
    served.applied(model("base"), model("leaving"))
    sim.behave("chunks=20;chunk_ms=100")
    with RawStream(served.made.gateways[0], model="leaving") as stream:
        stream.until(b"data: ", 3)
        served.applied(model("base"))
        assert not served.has("leaving")
        assert served.reload().status == 200
        whole = (
            stream.rest() if b"connection: close" in stream.received else stream.until(b"[DONE]")
        )
    assert whole.count(b"data: ") >= 20
    assert b'"error"' not in whole


def test_control_state_survives(served: Served) -> None:
    line = served.first
    assert line.put("strategies/active", {"name": "random"}).status == 200
    variants = {"same": {}, "other": {"strategy": "round-robin"}}
    swap = {"name": "swap", "variants": variants, "subject": ["request"], "models": ["auto"]}
    assert line.send(f"{BASE}/experiments", swap).status == 201
    assert line.put("breakers/base", {"override": "drain"}).status == 200
    secret = line.send(f"{BASE}/keys", {"alias": "kept"}).json()["secret"]
    served.applied(model("base"), model("spare"))
    try:
        for one in served.made.lines:
            headers = {"authorization": f"Bearer {secret}"}
            answers = [one.chat("auto", headers=headers) for _ in range(16)]
            assert {answer.headers["x-routeiq-model"] for answer in answers} == {"spare"}
            assert {answer.headers["x-routeiq-strategy"] for answer in answers} == {
                "random",
                "round-robin",
            }
            assert all(
                answer.headers["x-routeiq-experiment"].startswith("swap=") for answer in answers
            )
            assert one.chat("base").status == 503
    finally:
        line.send(f"{BASE}/experiments/swap", method="DELETE")
        line.send(f"{BASE}/strategies/active", method="DELETE")
        line.put("breakers/base", {"override": None})
    wait_until(lambda: served.has("base"), "it is back")


def test_what_only_a_start_changes_is_kept(served: Served) -> None:
    line = served.first
    secret = line.send(f"{BASE}/keys", {"alias": "of the old database"}).json()["secret"]
    before = line.get("config")["settings"]
    elsewhere = {"ROUTEIQ_WORKERS": "7", "ROUTEIQ_PORT": "1", "ROUTEIQ_LOG_LEVEL": "error"}
    served.applied(model("base"), environment_variables=elsewhere)
    now = line.get("config")["settings"]
    assert {name: now[name] for name in ("workers", "port", "host", "log_level")} == {
        name: before[name] for name in ("workers", "port", "host", "log_level")
    }
    assert len(served.made.report()["data"]) == 2
    for one in served.made.lines:
        assert one.chat("base", headers={"authorization": f"Bearer {secret}"}).status == 200


def test_a_worker_that_dies_comes_back_with_what_was_loaded(served: Served) -> None:
    served.applied(model("base"), model("fresh"))
    gateway, victim = served.made.gateways[0], served.made.lines[1]
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: not alive(victim.pid), "it is dead")
    wait_until(lambda: len(list(filter(alive, children(gateway.pid)))) == 2, "another one is there")
    served.made.hang_up()
    served.made.lines += one_each(gateway, 2)
    assert victim.worker not in {line.worker for line in served.made.lines}
    assert served.has("fresh")
    served.applied(model("base"))
    assert not served.has("fresh")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    train(folder / "adaptive", "adaptive", sample(folder / "data.jsonl", 120, 1))
    return folder


@pytest.mark.parametrize("by", ["configuration", "admin API"])
def test_what_was_learned_and_spent_survives(
    tmp_path: Path, sim: SimulatorProcess, models: Path, by: str
) -> None:
    budget = {"usd_per_request": 1e-4}
    section: dict[str, Any] = {
        "profiles": {"auto": {"budget": budget}},
        "learning": {"poll_s": 0.1},
    }
    if by == "configuration":
        section["strategy"] = "adaptive"
    path = tmp_path / "config.yaml"
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    priced = [model(f"sim-{size}", **price) for size in ("small", "large")]
    compose(path, sim, *priced, routeiq=section)
    env = {"ROUTEIQ_MODELS_PATH": str(models)}
    with fleet(path, "sqlite", gateways=1, workers=1, env=env) as made:
        line = made.first
        if by == "admin API":
            assert line.put("strategies/active", {"name": "adaptive"}).status == 200
        for number in range(12):
            answer = line.chat("auto", f"prompt {number}")
            assert answer.headers["x-routeiq-strategy"] == "adaptive"
            given = {"decision_id": answer.headers["x-routeiq-decision-id"], "score": 0.0}
            assert line.send(f"{BASE}/feedback", given).status == 202
        wait_until(lambda: taught(line) == 12, "the feedback was taken")
        learned = line.get("strategies")
        outcomes = learned["reports"]["adaptive"]["posteriors"]
        compose(path, sim, *priced, model("new"), routeiq=section)
        assert line.send(f"{BASE}/config/reload", {}).status == 200
        assert line.chat("new").status == 200
        now = line.get("strategies")
        assert now["reports"]["adaptive"]["posteriors"] == outcomes
        assert now["budgets"]["auto"][""]["requests"] == learned["budgets"]["auto"][""]["requests"]
        assert now["budgets"]["auto"][""]["total_spent_usd"] > 0


def taught(line: Line) -> int:
    """Outcomes that `adaptive` has learned from."""
    (posteriors,) = line.get("strategies")["reports"]["adaptive"]["posteriors"].values()
    return sum(one["outcomes"] for one in posteriors.values())
