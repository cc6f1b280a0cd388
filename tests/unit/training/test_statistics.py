"""Figures of a data set, computed by hand, and the remarks that follow from them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from routeiq.training.deduplication import leakage, signatures
from routeiq.training.languages import language
from routeiq.training.reading import read
from routeiq.training.records import Preference, Record
from routeiq.training.statistics import Collector, statistics
from routeiq.training.statistics_text import render, render_leakage

DATA = Path(__file__).parents[2] / "data" / "training"
RECORDS = [
    Record(
        id="1", task="x", text="What is it?", scores={"m": 1, "n": 0}, costs={"m": 0.2, "n": 0.1}
    ),
    Record(id="2", task="x", text="Why is it?", scores={"m": 1, "n": 1}, costs={"m": 0.4}),
    Record(id="3", task="y", text="what is it? ", scores={"m": 0, "n": 0}, latencies={"m": 2}),
    Record(id="4", task="y", text="1 + 1", scores={"m": 0.5}),
]


def test_figures() -> None:
    found = statistics(RECORDS)
    assert (found.rows, found.comparable, found.preferences) == (4, 3, 0)
    m, n = found.models
    assert (m.name, m.scored, m.coverage, m.score) == ("m", 4, 1.0, 0.625)
    assert (n.name, n.scored, n.coverage) == ("n", 3, 0.75)
    assert n.score == pytest.approx(1 / 3)
    assert m.cost_usd == pytest.approx(0.3)
    assert n.cost_usd == 0.1
    assert (m.latency_s, n.latency_s) == (2.0, None)
    assert m.only_best == pytest.approx(1 / 3)
    assert n.only_best == 0
    assert (found.best_single, found.best_score) == ("m", 0.625)
    assert found.oracle_score == (1 + 1 + 0 + 0.5) / 4
    assert found.random_score == (0.5 + 1 + 0 + 0.5) / 4
    assert (found.ties, found.equal, found.all_zero) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert (found.tasks, found.repeated_texts, found.with_costs) == ({"x": 2, "y": 2}, 1, 0.5)
    assert found.languages == {"English": 3, "other": 1}
    assert found.lengths == {"min": 5, "p50": 10, "p90": 11, "p99": 11, "max": 12}


def test_remarks() -> None:
    remarks = "\n".join(statistics(RECORDS).warnings)
    assert "3 comparable rows: below 200" in remarks
    assert "67% of rows have several best models" in remarks
    assert "67% of rows have the same score for every model" in remarks
    assert "on 33% of rows no model succeeds" in remarks
    assert "1 texts are repeated" in remarks
    assert "fewer than 50 scores: m, n" in remarks
    assert "the oracle is 0.0000 above m" in remarks
    assert "price list" not in remarks


def test_remarks_on_live_traffic() -> None:
    found = statistics(read(DATA / "vllm_sr_offline.json"))
    remarks = "\n".join(found.warnings)
    assert (found.live, found.with_propensities, found.without_text) == (3, 0, 3)
    assert "no row has scores of two models" in remarks
    assert "3 live rows without propensities" in remarks
    assert "costs in 33% of rows" in remarks


def test_a_good_set_needs_no_remark() -> None:
    rows = [
        Record(
            id=str(i),
            text=f"Question {i}",
            scores={"m": float(i % 2), "n": float((i + 1) % 2)},
            costs={"m": 1.0, "n": 1.0},
        )
        for i in range(300)
    ]
    assert statistics(rows).warnings == ()


def test_preferences_and_unscored_models() -> None:
    battle = Preference(id="1", text="Why?", model_a="m", model_b="q", winner="a")
    found = statistics([*RECORDS, battle])
    assert found.preferences == 1
    assert "no scores at all: q" in found.warnings
    assert next(one for one in found.models if one.name == "q").score is None
    assert statistics([battle]).best_single is None


def test_nothing_is_no_error() -> None:
    found = statistics([])
    assert (found.rows, found.models, found.lengths, found.ties) == (0, (), {}, 0.0)
    assert render(found).startswith("0 rows, 0 models")


def test_watching_passes_everything_on() -> None:
    collector = Collector()
    assert list(collector.watch(RECORDS)) == RECORDS
    assert collector.finish() == statistics(RECORDS)


def test_for_a_person_and_for_a_machine() -> None:
    found = statistics(RECORDS)
    text = render(found)
    assert "best single m 0.6250, random 0.5000, oracle 0.6250" in text
    assert f"{'n':40} {3:8} {'0.3333':>7} {'100.0000':>9} {'-':>8} {'0.0%':>9}" in text
    assert "note: 67% of rows have several best models" in text
    document = orjson.loads(orjson.dumps(found.to_json()))
    assert document["models"][0]["name"] == "m"
    same = signatures(["Why?"])
    assert render_leakage(leakage(same, same), "t.csv") == (
        "leakage: 1 exact and 0 near duplicates of t.csv in 1 rows (100.00%), compared with 1"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("What is the capital of France?", "English"),
        ("Wie nennt man die Hauptstadt von Frankreich und wo liegt der Ort?", "German"),
        ("Quelle est la capitale de la France et des autres ?", "French"),
        ("¿Cuál es la capital de los Estados Unidos?", "Spanish"),
        ("法国的首都是哪里", "Chinese"),
        ("フランスの首都は", "Japanese"),
        ("프랑스의 수도는?", "Korean"),
        ("Какая столица Франции?", "Cyrillic"),
        ("What does the letter π mean in the formula for the area?", "English"),
        ("1 + 1 = ?", "other"),
        ("", "other"),
    ],
)
def test_languages(text: str, name: str) -> None:
    assert language(text) == name
