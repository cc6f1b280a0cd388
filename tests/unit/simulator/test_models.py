from __future__ import annotations

from pathlib import Path

import pytest

from routeiq.exceptions import ConfigError
from routeiq.simulator import CATALOGUE, SimulatedModel, load_models
from routeiq.simulator.models import draw, kind_of

PROMPTS = [f"Question {number}: what is this?" for number in range(400)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hello there!", ("general", "easy")),
        ("Explain why the sky is blue.", ("general", "medium")),
        ("Write a poem.", ("writing", "easy")),
        ("Fix this Python function, please", ("code", "easy")),
        ("Prove the theorem.", ("math", "hard")),
        ("word " * 31, ("general", "medium")),
        ("word " * 121, ("general", "hard")),
    ],
)
def test_kind_is_told_from_words_and_length(text: str, kind: tuple[str, str]) -> None:
    assert kind_of(text) == kind


def test_the_same_pair_is_always_judged_alike() -> None:
    model = SimulatedModel(name="m", quality={"*": 0.5})
    assert [model.is_right(p) for p in PROMPTS] == [model.is_right(p) for p in PROMPTS]


def test_share_of_right_answers_is_the_quality() -> None:
    model = SimulatedModel(name="m", quality={"easy": 0.7})
    assert sum(map(model.is_right, PROMPTS)) / len(PROMPTS) == pytest.approx(0.7, abs=0.07)


def test_a_better_model_is_right_wherever_a_worse_one_is() -> None:
    worse, better = (SimulatedModel(name="m", quality={"*": q}) for q in (0.3, 0.6))
    assert all(better.is_right(prompt) for prompt in PROMPTS if worse.is_right(prompt))


@pytest.mark.parametrize(
    ("quality", "right"),
    [
        ({"math/hard": 1.0, "math": 0.0}, True),
        ({"math": 1.0, "hard": 0.0}, True),
        ({"hard": 1.0, "*": 0.0}, True),
        ({"*": 1.0}, True),
        ({"code": 1.0}, False),
    ],
)
def test_the_most_specific_quality_counts(quality: dict[str, float], right: bool) -> None:
    assert SimulatedModel(name="m", quality=quality).is_right("Prove the theorem.") is right


def test_draws_are_in_the_unit_interval_and_differ() -> None:
    draws = {draw(prompt) for prompt in PROMPTS}
    assert len(draws) == len(PROMPTS)
    assert min(draws) >= 0
    assert max(draws) < 1


def test_cost_is_per_million_tokens() -> None:
    model = SimulatedModel(name="m", input_usd_per_mtok=2.0, output_usd_per_mtok=10.0)
    assert model.cost_usd(1_000, 500) == pytest.approx(0.007)


def test_catalogue_orders_chat_models_by_price_and_hard_quality() -> None:
    chat = [model for model in CATALOGUE if model.embedding_dimensions is None]
    assert len(CATALOGUE) == 6
    prices = [model.output_usd_per_mtok for model in chat]
    assert prices == sorted(prices)
    hard = [model.quality["hard"] for model in chat]
    assert hard == sorted(hard)


def test_models_are_read_from_json_too(tmp_path: Path) -> None:
    path = tmp_path / "models.json"
    path.write_text('[{"name": "one", "capabilities": ["tools"], "quality": {"*": 1.0}}]')
    (model,) = load_models(path)
    assert model.capabilities == {"tools"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- nme: x", "nme"),
        ("- name: x\n  capabilities: [flying]", "flying"),
        ("- name: x\n  output_tokens: many", "output_tokens"),
        ("models: 1", "models"),
        ("[", "cannot be read"),
    ],
)
def test_a_bad_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_models(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_models(tmp_path / "none.yaml")
