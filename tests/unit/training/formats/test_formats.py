"""Every format on a small file of its own: recognised by its keys, read to hand-computed records."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from routeiq.training.errors import DataError
from routeiq.training.formats import FORMATS, format_named
from routeiq.training.formats.joining import Joiner
from routeiq.training.reading import detect_format, prices_of, read
from routeiq.training.records import Preference, Record

DATA = Path(__file__).parents[3] / "data" / "training"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"
GPT4 = "gpt-4-1106-preview"
QWEN, GEMMA = "qwen2.5-7b-instruct", "codegemma-7b"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, its format, and what one of its records must be."""

    file: str
    format: str
    rows: int
    row: int = 0
    id: str
    text: str
    scores: Mapping[str, float]
    costs: Mapping[str, float] = field(default_factory=dict)
    latencies: Mapping[str, float] = field(default_factory=dict)
    output_tokens: Mapping[str, float] = field(default_factory=dict)
    task: str = ""


CASES = (
    Case(
        file="plain.jsonl",
        format="plain",
        rows=3,
        id="a",
        text="What is 2 + 2?",
        scores={"small": 1.0, "large": 1.0},
        costs={"small": 1e-05, "large": 0.001},
        latencies={"small": 0.2},
        output_tokens={"small": 3.0},
        task="maths",
    ),
    Case(
        file="plain.jsonl",
        format="plain",
        rows=3,
        row=1,
        id="b",
        text="Write quicksort in Haskell.",
        scores={"small": 0.25},
        costs={"small": 2e-05},
        task="code",
    ),
    Case(
        file="plain.jsonl", format="plain", rows=3, row=2, id="7", text="Hi", scores={"large": 1.0}
    ),
    Case(
        file="plain_wide.csv",
        format="plain-wide",
        rows=2,
        row=1,
        id="b",
        text='Write quicksort\nin "Haskell".',
        scores={"small": 0.25},
        costs={"small": 2e-05},
        task="code",
    ),
    Case(  # two measurements of `small` are averaged
        file="plain_long.csv",
        format="plain-long",
        rows=2,
        id="plain_long.csv:1",
        text="What is 2 + 2?",
        scores={"small": 0.5, "large": 1.0},
        costs={"small": 2e-05, "large": 0.001},
    ),
    Case(
        file="llmrouter.jsonl",
        format="llmrouter",
        rows=2,
        id="llmrouter.jsonl:1",
        text="How many eggs?",
        scores={QWEN: 1.0, GEMMA: 0.0},
        latencies={QWEN: 1.5, GEMMA: 2.5},
        output_tokens={QWEN: 20.0, GEMMA: 50.0},
        task="gsm8k",
    ),
    Case(
        file="routerdc.json",
        format="routerdc",
        rows=2,
        id="routerdc.json:1",
        text="when does it come out in canada?",
        scores={"meta/llama": 1.0, "qwen/qwen": 0.0},
    ),
    Case(  # ratings go to 5, so 5 is the scale; two judges of gpt-4 are averaged: (5 + 3) / 2 / 5
        file="gmtrouter.jsonl",
        format="gmtrouter",
        rows=2,
        id="12-1-0",
        text="What is ML?",
        scores={"gpt-4": 0.8, "mixtral": 0.2},
        task="conversation",
    ),
    Case(
        file="routellm.csv",
        format="routellm",
        rows=2,
        id="routellm.csv:1",
        text="Janet has 3 ducks.\nHow many?",
        scores={MIXTRAL: 0.0, GPT4: 1.0},
    ),
    Case(  # 1 to 10 becomes 0 to 1; the turn whose verdict could not be read (-1) is left out
        file="judgements.jsonl",
        format="judgements",
        rows=1,
        id="81-1",
        text="Compose a travel blog post.",
        scores={GPT4: 1.0, "mixtral": 0.5},
        task="judgements",
    ),
    Case(
        file="routerbench.csv",
        format="routerbench",
        rows=2,
        id="mmlu.val.1",
        text="Please answer with the letter.\n\nWhat is a dog?\nA) pet\nAnswer:",
        scores={"gpt-4": 1.0, "mistral-7b": 0.0},
        costs={"gpt-4": 0.003, "mistral-7b": 1e-05},
        task="mmlu",
    ),
    Case(  # of examples and a question, the question
        file="routerbench.csv",
        format="routerbench",
        rows=2,
        row=1,
        id="gsm.val.2",
        text="Question: What is 2 + 2?\nAnswer:",
        scores={"gpt-4": 1.0, "mistral-7b": 1.0},
        costs={"gpt-4": 0.004, "mistral-7b": 2e-05},
        task="gsm8k",
    ),
    Case(  # of two runs of qwen3-8b the later one
        file="llmrouterbench",
        format="llmrouterbench",
        rows=2,
        id="gpqa-test-1",
        text="Why?",
        scores={"gemma-9b": 0.0, "qwen3-8b": 1.0},
        costs={"gemma-9b": 0.001, "qwen3-8b": 0.002},
        output_tokens={"gemma-9b": 2.0, "qwen3-8b": 2.0},
        task="gpqa",
    ),
    Case(
        file="avengers_pro.jsonl",
        format="avengers-pro",
        rows=1,
        id="arc-agi-v1-0",
        text="Solve the grid.",
        scores={"anthropic/claude-opus-4.1": 0.95, "openai/gpt-5-chat": 0.92},
        costs={"anthropic/claude-opus-4.1": 0.045, "openai/gpt-5-chat": 0.038},
        task="arc-agi-v1",
    ),
    Case(
        file="embedllm.csv",
        format="embedllm",
        rows=2,
        id="0",
        text="Is water wet?",
        scores={"llama-13b": 1.0, "vicuna-7b": 0.0},
        task="asdiv",
    ),
    Case(
        file="rorf.jsonl",
        format="rorf",
        rows=1,
        id="rorf.jsonl:1",
        text="What is the boiling point?",
        scores={"meta-llama/llama-3.1-70b": 1.0, "claude-3-5-sonnet": 0.5},
    ),
    Case(
        file="vllm_sr.jsonl",
        format="vllm-sr",
        rows=1,
        id="vllm_sr.jsonl:1",
        text="Derivative of x^2?",
        scores={"llama-3b": 0.5, "mistral-7b": 1.0},
        latencies={"llama-3b": 0.4, "mistral-7b": 0.9},
        task="math",
    ),
    Case(
        file="nvidia.jsonl",
        format="nvidia",
        rows=1,
        id="4",
        text="Describe the picture.",
        scores={"gpt-5": 1.0, "nemotron": 0.0},
    ),
    Case(  # two filters of one sample (0 and 1) are averaged; the other model's file has the older form
        file="lm_eval",
        format="lm-eval",
        rows=1,
        id="gsm8k-0",
        text="Question: How many eggs?\nAnswer:",
        scores={"Qwen/Qwen2.5-7B": 1.0, "meta-llama/Llama-3.1-8B": 0.5},
        task="gsm8k",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}-{case.row}")
def test_a_file_is_recognised_and_read(case: Case) -> None:
    records = list(read(DATA / case.file))
    assert detect_format(DATA / case.file).name == case.format
    assert len(records) == case.rows
    record = records[case.row]
    assert isinstance(record, Record)
    assert (record.id, record.text, record.task) == (case.id, case.text, case.task)
    for name in ("scores", "costs", "latencies", "output_tokens"):
        assert getattr(record, name) == pytest.approx(dict(getattr(case, name))), name


def test_battles_become_preferences() -> None:
    found = list(read(DATA / "battles.jsonl"))
    assert detect_format(DATA / "battles.jsonl").name == "battles"
    assert found == [
        Preference(
            id="1", text="Why is the sky blue?", model_a="gpt-4", model_b="vicuna", winner="a"
        ),
        Preference(id="2", text="Hello", model_a="vicuna", model_b="gpt-4", winner="b"),
        Preference(id="3", text="Sing!", model_a="vicuna", model_b="gpt-4", winner="tie"),
    ]


@pytest.mark.parametrize(
    ("votes", "winner"),
    [("1,0,0", "a"), ("0,1,0", "b"), ("0,0,1", "tie")],
)
def test_votes_in_columns(tmp_path: Path, votes: str, winner: str) -> None:
    head = "id,prompt,model_a,model_b,winner_model_a,winner_model_b,winner_tie"
    path = tmp_path / "x.csv"
    path.write_text(f"{head}\n1,Why?,m,n,{votes}\n")
    (found,) = read(path)
    assert isinstance(found, Preference)
    assert found.winner == winner
    path.write_text(f"{head}\n1,Why?,m,n,0,0,0\n")
    with pytest.raises(DataError, match="none of `winner_model_a`"):
        list(read(path))


@pytest.mark.parametrize("file", ["routerarena.json", "routerarena_cached.jsonl"])
def test_routerarena_is_for_evaluation_only(file: str) -> None:
    with pytest.raises(DataError, match="forbids training"):
        list(read(DATA / file))
    (record,) = read(DATA / file, allow_evaluation_only=True)
    assert isinstance(record, Record)
    assert (record.id, record.task, record.scores["gpt-4o-mini"]) == ("ArcMMLU_1", "ArcMMLU", 1.0)


def test_a_price_list_turns_tokens_into_costs() -> None:
    files = [DATA / "llmrouter.jsonl", DATA / "llm_candidates.json"]
    record = next(iter(read(files)))
    assert isinstance(record, Record)
    # USD per million: 100 tokens at 0.2 and 20 at 0.4; 100 at 1 and 50 at 2
    assert record.costs == pytest.approx({QWEN: 28e-6, GEMMA: 200e-6})
    assert prices_of(files)[f"google/{GEMMA}"] == pytest.approx((1e-6, 2e-6))


def test_given_prices_win_over_the_price_list() -> None:
    files = [DATA / "llmrouter.jsonl", DATA / "llm_candidates.json"]
    record = next(iter(read(files, prices={QWEN: (1.0, 0.0)})))
    assert isinstance(record, Record)
    assert record.costs == pytest.approx({QWEN: 100.0, GEMMA: 200e-6})


def test_the_offline_records_of_vllm_sr_are_live_traffic() -> None:
    won, wrong, unknown = read(DATA / "vllm_sr_offline.json")
    assert detect_format(DATA / "vllm_sr_offline.json").name == "vllm-sr-offline"
    assert isinstance(won, Record)
    assert isinstance(wrong, Record)
    assert isinstance(unknown, Record)
    assert (won.id, won.chosen, won.scores, won.costs) == ("s1-0", "m1", {"m1": 1.0}, {"m1": 0.01})
    assert (wrong.chosen, wrong.scores) == ("m2", {"m2": 0.0})
    assert (unknown.chosen, unknown.scores) == ("m2", {})


@pytest.mark.parametrize(
    ("outcome", "scores"),
    [
        ('{"tie": true, "won": false}', {"m": 0.5}),
        ('{"won": false}', {"m": 0.0}),
        ('{"feedback_type": "implicit_satisfied"}', {"m": 1.0}),
        ('{"feedback_type": "explicit"}', {}),
    ],
)
def test_rewards_of_vllm_sr(tmp_path: Path, outcome: str, scores: dict[str, float]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"selected_model": "m", "candidate_models": ["m"], "outcome": {outcome}}}\n')
    (found,) = read(path)
    assert isinstance(found, Record)
    assert found.scores == scores


def test_the_decision_log_joins_feedback_to_its_decision() -> None:
    first, second, third = read(DATA / "decision_log.jsonl")
    assert isinstance(first, Record)
    assert (first.id, first.chosen, first.scores) == ("d1", "small", {"small": 1.0})
    assert first.propensities == {"small": 0.98, "large": 0.02}
    assert first.costs == {"small": 0.0002, "large": 0.01}  # real, predicted
    assert first.latencies == {"small": 1.5}
    assert first.extra["predicted"] == {"small": 0.8, "large": 0.9}
    assert isinstance(second, Record)
    assert (second.text, second.scores) == ("", {"large": 0.25})  # two people said 0.5 and 0
    assert (second.propensities, second.extra["fingerprint"]) == ({"large": 1.0}, "fake-4")
    assert isinstance(third, Record)
    assert (third.scores, third.costs, third.latencies) == ({}, {}, {})  # the call failed


def test_a_format_can_be_named() -> None:
    records = list(read(DATA / "routerdc.json", format="plain"))
    assert len(records) == 2
    with pytest.raises(DataError, match=r"no format 'nope'; there are .*plain"):
        read(DATA / "routerdc.json", format="nope")


def test_a_full_disk_is_our_error() -> None:
    with pytest.raises(DataError, match=r"database or disk is full.*TMPDIR"), Joiner({}):
        raise sqlite3.OperationalError("database or disk is full")


def test_names_are_unique_and_every_format_has_a_file() -> None:
    names = [one.name for one in FORMATS]
    assert len(set(names)) == len(names)
    files = [path for path in DATA.iterdir() if path.name != "llm_candidates.json"]
    assert {detect_format(path).name for path in files} == set(names)
    assert format_named("embedllm").title.startswith("EmbedLLM")
