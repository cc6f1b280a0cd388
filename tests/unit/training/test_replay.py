from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from routeiq.cli.replay import read_prompts, replay
from routeiq.config.section import Profile
from routeiq.embeddings.features import load_features
from routeiq.training.errors import DataError
from routeiq.training.reading import read
from routeiq.training.replay import Decisions, as_logged, prompts, read_decisions, run
from routeiq.training.scoring import PriorScorer
from routeiq.training.table import Matrix, Table

COSTS = {"cheap": 0.001, "strong": 0.01}
QUALITY = Profile(cost_weight=0.0)


class Likes:
    """Predicts 0.9 for one model and 0.6 for all others."""

    def __init__(self, model: str) -> None:
        self.name = f"likes-{model}"
        self.models: tuple[str, ...] = (model,)

    def scores(self, table: Table) -> Matrix:
        row = [0.9 if model in self.models else 0.6 for model in table.models]
        return np.tile(np.array(row, dtype=np.float32), (len(table), 1))


def decision(number: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "decision",
        "decision_id": f"d{number}",
        "time": 1.0,
        "route_text": f"Question {number}: what is {number} plus {number}?",
        "strategy": "adaptive",
        "outcome": "success",
        "candidates": [{"model": m, "score": 0.5, "cost_usd": c} for m, c in COSTS.items()],
        "propensity": 1.0,
        "propensities": None,
        "model": "strong",
        "chosen": "strong",
        "cost_usd": 0.012,
    } | more


def explored(rows: int = 400) -> list[dict[str, Any]]:
    """Every fourth decision is for the cheap model, by chance; strong answers are worth 1, cheap ones 0.5."""
    events: list[dict[str, Any]] = []
    for number in range(rows):
        cheap = number % 4 == 0
        events.append(
            decision(
                number,
                propensities={"cheap": 0.25, "strong": 0.75},
                propensity=0.25 if cheap else 0.75,
                model="cheap" if cheap else "strong",
                chosen="cheap" if cheap else "strong",
                cost_usd=0.0012 if cheap else 0.012,
            )
        )
        score = 0.5 if cheap else 1.0
        events.append({"kind": "feedback", "decision_id": f"d{number}", "score": score})
    return events


def written(folder: Path, events: Sequence[dict[str, Any]]) -> Path:
    path = folder / "decisions.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, events)))
    return path


def opened(folder: Path, events: Sequence[dict[str, Any]]) -> Decisions:
    return read_decisions(read(written(folder, events), format="decision-log"))


def test_what_would_have_been_chosen_and_what_it_would_have_been_worth(tmp_path: Path) -> None:
    decisions = opened(tmp_path, explored())
    cheap = run(decisions, Likes("cheap"), QUALITY)
    assert cheap.selection == {"cheap": 1.0}
    assert cheap.agreement == 0.25
    assert cheap.predicted_quality == pytest.approx(0.9)
    assert cheap.refusal is None
    for estimate in cheap.estimates:
        assert estimate.value == pytest.approx(0.5, abs=0.01)
        assert estimate.low <= 0.5 <= estimate.high
    strong = run(decisions, Likes("strong"), QUALITY, name="other")
    assert strong.name == "other"
    assert strong.agreement == 0.75
    assert strong.estimates[1].value == pytest.approx(1.0)
    logged = as_logged(decisions)
    assert logged is not None
    assert logged.value == pytest.approx(0.875)


def test_the_profiles_objective_chooses(tmp_path: Path) -> None:
    decisions = opened(tmp_path, explored(8))
    dear = run(decisions, Likes("strong"), Profile(cost_weight=20.0))
    assert dear.selection == {"strong": 1.0}
    thrifty = run(decisions, Likes("strong"), Profile(cost_weight=50.0))
    assert thrifty.selection == {"cheap": 1.0}
    floor = run(decisions, Likes("strong"), Profile(cost_weight=50.0, min_quality=0.7))
    assert floor.selection == {"strong": 1.0}


def test_a_deterministic_log_supports_agreement_but_no_other_choice(tmp_path: Path) -> None:
    events = [decision(n) for n in range(60)]
    events += [{"kind": "feedback", "decision_id": f"d{n}", "score": 1.0} for n in range(60)]
    decisions = opened(tmp_path, events)
    assert run(decisions, Likes("strong"), QUALITY).refusal is None
    other = run(decisions, Likes("cheap"), QUALITY)
    assert other.estimates == ()
    assert "could not have chosen" in (other.refusal or "")


def test_propensities_that_nobody_wrote_support_nothing(tmp_path: Path) -> None:
    events = explored(100)
    for event in events:
        event.pop("propensity", None)
        event.pop("propensities", None)
    found = run(opened(tmp_path, events), Likes("cheap"), QUALITY)
    assert "no decision in the log has both" in (found.refusal or "")


def test_the_choices_propensity_alone_is_enough_where_chance_chose(tmp_path: Path) -> None:
    events = [{**event, "propensities": None} for event in explored()]
    found = run(opened(tmp_path, events), Likes("cheap"), QUALITY)
    assert found.refusal is None
    assert found.estimates[0].value == pytest.approx(0.5, abs=0.01)


def test_only_candidates_are_chosen_and_named_models_are_left_out(tmp_path: Path) -> None:
    alone = [{"model": "strong", "score": 0.5, "cost_usd": 0.01}]
    pair = [{"model": m, "score": 0.5, "cost_usd": 0.01} for m in ("strong", "third")]
    events = [decision(1, candidates=alone), decision(2, candidates=pair), decision(3)]
    decisions = opened(tmp_path, events)
    assert decisions.left_out == {"no choice: one candidate": 1}
    assert run(decisions, Likes("cheap"), QUALITY).selection == {"strong": 0.5, "cheap": 0.5}


def test_a_log_without_prompts_needs_its_features(tmp_path: Path) -> None:
    features = load_features()
    vector = np.zeros(features.dimension, dtype="<f2")
    good = {
        "route_text": "",
        "fingerprint": features.fingerprint,
        "features": base64.b64encode(vector.tobytes()).decode(),
    }
    decisions = opened(tmp_path, [decision(1, **good), decision(2, route_text="")])
    assert len(decisions) == 1
    assert decisions.left_out == {"no text and no usable features": 1}
    assert run(decisions, Likes("cheap"), QUALITY).agreement == 0.0
    with pytest.raises(DataError, match="log_text"):
        run(decisions, PriorScorer(), QUALITY)


def test_without_a_routing_decision_it_says_what_was_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 x no choice"):
        opened(tmp_path, [decision(1, candidates=[{"model": "strong", "score": 1.0}])])


def test_prompts_have_no_log_to_agree_with() -> None:
    costs = [{"cheap": 0.001}, {"cheap": 0.001}]
    decisions = prompts(["One?", "Two?"], ["cheap", "strong"], costs)
    found = run(decisions, Likes("strong"), QUALITY)
    assert (found.agreement, found.overlap, found.predicted_usd) == (None, None, None)
    assert found.selection == {"strong": 1.0}
    assert as_logged(decisions) is None
    assert run(decisions, Likes("cheap"), QUALITY).predicted_usd == pytest.approx(0.001)
    with pytest.raises(DataError, match="nothing to choose between"):
        prompts(["One?"], ["cheap"])
    with pytest.raises(DataError, match="no prompt"):
        prompts([" "], ["cheap", "strong"])


def test_the_command_prints_json_and_words(tmp_path: Path) -> None:
    log = str(written(tmp_path, explored()))
    arguments = ["--log", log, "--strategy", "prior", "--profile", "premium"]
    answer = orjson.loads(CliRunner().invoke(replay, [*arguments, "--json"]).output)
    assert answer["requests"] == 400
    assert answer["as_logged"]["value"] == pytest.approx(0.875)
    (one,) = answer["strategies"]
    assert one["name"] == "prior"
    assert set(one["estimates"]) == {"ips", "snips", "dr"}
    words = CliRunner().invoke(replay, arguments).output
    assert "as logged: mean feedback 0.8750" in words
    assert "effective" not in words
    assert "decisions with feedback, largest weight" in words


def test_the_command_says_why_it_does_not_conclude(tmp_path: Path) -> None:
    log = str(written(tmp_path, [decision(n) for n in range(5)]))
    words = CliRunner().invoke(replay, ["--log", log, "--strategy", "prior"]).output
    assert "no estimate: no decision in the log has both" in words


def test_the_command_takes_prompts_and_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "model_list:\n"
        "- {model_name: small, litellm_params: {model: openai/gpt-4o-mini, api_key: k}}\n"
        "- {model_name: large, litellm_params: {model: openai/gpt-4o, api_key: k}}\n"
    )
    asked = tmp_path / "prompts.txt"
    asked.write_text("Hi!\n\nProve Fermat's last theorem.\n")
    arguments = ["--prompts", str(asked), "-c", str(config), "--strategy", "prior", "--json"]
    result = CliRunner().invoke(replay, arguments, catch_exceptions=False)
    answer = orjson.loads(result.output)
    assert answer["requests"] == 2
    assert answer["strategies"][0]["predicted_usd"] > 0
    assert set(answer["strategies"][0]["selection"]) <= {"small", "large"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --log or --prompts"),
        (["--log", "."], "at least one --strategy"),
        (["--log", ".", "--strategy", "prior", "--profile", "x"], "there is no profile 'x'"),
    ],
)
def test_the_command_refuses_half_a_question(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(replay, arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_prompt_files_are_lines_json_strings_or_objects(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('plain [text]\n"a string"\n{"prompt": "an object"}\n\n{"route_text": "r"}\n')
    assert read_prompts(path) == ["plain [text]", "a string", "an object", "r"]
    path.write_text('{"other": 1}\n')
    with pytest.raises(DataError, match=r"prompts.jsonl:1: no prompt"):
        read_prompts(path)
    path.write_text("\n{broken\n")
    with pytest.raises(DataError, match=r"prompts.jsonl:2: "):
        read_prompts(path)
