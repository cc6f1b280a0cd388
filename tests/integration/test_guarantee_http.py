"""A certified guarantee over HTTP: cheaper models stand in as certified, and nobody does where nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routeiq.simulator.sample import CHAT, cost_usd, prompts
from tests.integration.conftest import StartGateway
from tests.integration.helpers import EASY, answered_by, chat, decision_of, get
from tests.integration.learned import placed, routeiq, run, sample, serving, together, train, usd
from tests.support.http import Answer
from tests.support.processes import Gateway, SimulatorProcess, wait_until

REFERENCE = "sim-reasoner"
EPSILON = 0.05
SERVED = 150
MODELS = {model.name: model for model in CHAT}
PROMISE = {"reference": REFERENCE, "epsilon": EPSILON, "delta": 0.1}
PROFILES = {"sure": {"cost_weight": 60.0, "guarantee": PROMISE}}
SURE = {"x-routeiq-profile": "sure"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact without a certificate."""
    folder = tmp_path_factory.mktemp("trained")
    return train(folder / "logistic", "logistic", sample(folder / "data.jsonl", 500, 1))


@pytest.fixture(scope="module")
def certified(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one for the profile `sure`."""
    folder = tmp_path_factory.mktemp("certified")
    data = sample(folder / "data.jsonl", 1200, 9)
    said = routeiq(
        *("models", "calibrate", "--artifact", trained, "--data", data, "--reference", REFERENCE),
        *("--epsilon", str(EPSILON), "--out", folder / "logistic"),
    )
    assert "certified" in said
    return folder / "logistic"


def served(
    start: StartGateway, simulator: SimulatorProcess, models: Path, **options: Any
) -> Gateway:
    return serving(
        start, simulator, models, **{"strategy": "logistic", "profiles": PROFILES, **options}
    )


@pytest.fixture(scope="module")
def sure(
    start: StartGateway,
    simulator: SimulatorProcess,
    certified: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Gateway:
    models = placed(tmp_path_factory.mktemp("models"), certified)
    return served(start, simulator, models, env={"ROUTEIQ_CB_FAILURE_THRESHOLD": "2"})


def ask(gateway: Gateway, text: str = EASY, **fields: Any) -> Answer:
    return chat(gateway, "auto", text, headers=SURE, **fields)


def test_the_certificate_is_part_of_the_artifact(certified: Path, trained: Path) -> None:
    (found,) = json.loads((certified / "manifest.json").read_text())["certificates"]
    assert found["reference"] == REFERENCE
    assert (found["epsilon"], found["delta"]) == (EPSILON, 0.1)
    assert found["bound"] <= EPSILON
    assert json.loads((trained / "manifest.json").read_text())["certificates"] == []


def test_cheaper_models_stand_in_as_certified_and_quality_holds(sure: Gateway) -> None:
    texts = list(prompts(SERVED, 99))
    answers = together(lambda text: ask(sure, text), texts)
    reference = MODELS[REFERENCE]
    right = sum(
        MODELS[answered_by(answer)].is_right(t) for answer, t in zip(answers, texts, strict=True)
    )
    spent = sum(map(usd, answers))
    lost = (sum(map(reference.is_right, texts)) - right) / SERVED
    assert lost <= EPSILON + 0.03  # the promise, and what 150 prompts may be off by
    assert spent <= 0.5 * sum(cost_usd(reference, text) for text in texts)
    assert len(set(map(answered_by, answers))) >= 2
    reasons = {answer.headers["x-routeiq-reason"] for answer in answers}
    said = f"certified no worse than {REFERENCE} by more than {EPSILON:g}"
    assert all(said in reason for reason in reasons), reasons


def test_only_models_within_the_margin_stand_in(sure: Gateway, certified: Path) -> None:
    tau = json.loads((certified / "manifest.json").read_text())["certificates"][0]["tau"]
    for text in prompts(30, 5):
        record = decision_of(sure, ask(sure, text))
        scores = {one["model"]: one["score"] for one in record["candidates"]}
        assert scores[record["model"]] >= scores[REFERENCE] - tau - 1e-6


@pytest.mark.parametrize(
    "promise",
    [{"epsilon": 0.01}, {"delta": 0.01}, {"reference": "sim-large"}],
    ids=["a smaller loss", "more confidence", "another reference"],
)
def test_a_certificate_holds_for_no_stronger_promise(
    start: StartGateway,
    simulator: SimulatorProcess,
    certified: Path,
    tmp_path: Path,
    promise: dict[str, Any],
) -> None:
    asked = {**PROMISE, **promise}
    profiles = {"sure": {"cost_weight": 60.0, "guarantee": asked}}
    gateway = served(start, simulator, placed(tmp_path, certified), profiles=profiles)
    for text in prompts(10, 3):
        answer = ask(gateway, text)
        assert answered_by(answer) == asked["reference"]
        assert "nothing is certified" in answer.headers["x-routeiq-reason"]


def test_without_a_certificate_only_the_reference_answers_until_one_is_there(
    start: StartGateway, simulator: SimulatorProcess, trained: Path, certified: Path, tmp_path: Path
) -> None:
    gateway = served(start, simulator, placed(tmp_path, trained))
    answers = together(lambda text: ask(gateway, text), prompts(20, 3))
    assert {answered_by(answer) for answer in answers} == {REFERENCE}
    assert all("nothing is certified" in a.headers["x-routeiq-reason"] for a in answers)
    routeiq("models", "stage", certified, "--store", tmp_path)
    version = json.loads((certified / "manifest.json").read_text())["version"]
    routeiq("models", "promote", version, "--store", tmp_path)
    wait_until(
        lambda: "; certified" in ask(gateway).headers["x-routeiq-reason"], "the certificate is used"
    )
    assert {answered_by(ask(gateway, text)) for text in prompts(10, 3)} != {REFERENCE}


def test_other_scores_than_the_certified_ones_are_not_covered(
    start: StartGateway, simulator: SimulatorProcess, certified: Path, tmp_path: Path
) -> None:
    strategy = {"name": "logistic", "options": {"prior_weight": 0.5}}
    gateway = served(start, simulator, placed(tmp_path, certified), strategy=strategy)
    answer = ask(gateway)
    assert answered_by(answer) == REFERENCE
    assert "nothing is certified" in answer.headers["x-routeiq-reason"]


def test_a_strategy_without_certificates_lets_only_the_reference_answer(
    start: StartGateway, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    gateway = served(start, simulator, tmp_path, strategy="prior")
    assert answered_by(ask(gateway)) == REFERENCE


def test_a_hint_is_not_followed_to_a_model_that_is_not_certified(sure: Gateway) -> None:
    text = "Prove and derive formally this integral rivers and kings, number 17"
    hint = {**SURE, "x-routeiq-hint": "sim-nano"}
    answer = chat(sure, "auto", text, headers=hint)
    assert answered_by(answer) != "sim-nano"
    assert "certified no worse" in answer.headers["x-routeiq-reason"]
    assert decision_of(sure, answer)["hint_followed"] is False


def test_a_reference_that_cannot_take_the_request_is_named(sure: Gateway) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    answer = ask(sure, [{"type": "text", "text": EASY}, image])  # type: ignore[arg-type]
    assert answered_by(answer) in {"sim-medium", "sim-large"}
    reason = answer.headers["x-routeiq-reason"]
    assert f"the guarantee's reference {REFERENCE} is not eligible" in reason
    assert "; certified" not in reason


def test_a_reference_whose_breaker_is_open_is_named_and_the_best_answers(
    sure: Gateway, sim: SimulatorProcess
) -> None:
    sim.behave("status=500", REFERENCE)
    for _ in range(2):
        chat(sure, REFERENCE, EASY)

    def breaker() -> str:
        data = get(sure, "/routeiq/v1/models").json()["data"]
        found: str = next(one["breaker"] for one in data if one["model"] == REFERENCE)
        return found

    assert breaker() == "open"
    record = decision_of(sure, ask(sure))
    assert f"the guarantee's reference {REFERENCE} is not eligible" in record["reason"]
    best = max(record["candidates"], key=lambda one: one["score"])
    assert record["model"] == best["model"]


def test_a_promise_that_the_data_cannot_support_is_refused(trained: Path, tmp_path: Path) -> None:
    data = sample(tmp_path / "few.jsonl", 40, 9)
    before = (trained / "manifest.json").read_bytes()
    done = run(
        *("models", "calibrate", "--artifact", trained, "--data", data, "--reference", REFERENCE),
        *("--epsilon", "0.001"),
    )
    assert done.returncode != 0
    assert REFERENCE in done.stderr
    assert "Traceback" not in done.stderr
    assert (trained / "manifest.json").read_bytes() == before
