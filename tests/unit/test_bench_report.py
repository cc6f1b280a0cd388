"""The benchmark's judgement and its page, from made-up figures; and the arithmetic beneath them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from bench.load import Load, LoadError, lua, parse_wrk
from bench.loadgen import merged, quantile
from bench.measure import quiet_rounds, rows
from bench.report import number, page, signed
from bench.soak import trend
from bench.stalls import slow_callbacks
from bench.targets import judge

COLUMNS = {
    "direct": "direct call",
    "routeiq": "RouteIQ",
    "bare": "bare pass-through",
    "litellm": "LiteLLM proxy",
    "tensorzero": "TensorZero",
}
CPU_MS = {"direct": 0.0, "routeiq": 0.2, "bare": 0.1, "litellm": 9.0, "tensorzero": 0.15}


def closed(scenario: str, connections: int, target: str) -> dict[str, Any]:
    cpu = CPU_MS[target]
    row = {
        "scenario": scenario,
        "connections": connections,
        "target": target,
        "cpu_ms": cpu,
        "cpu_ms_low": cpu * 0.9,
        "cpu_ms_high": cpu * 1.1,
        "cpu_of_bare": cpu / 0.1,
        "per_s": 1234.5,
        "errors": 0,
        "noise": 0.02,
    }
    if target != "direct":
        row |= {"added_p50_ms": 0.3, "added_p99_ms": -0.04}
    return row


def paced(scenario: str, target: str) -> dict[str, Any]:
    row = {
        "scenario": scenario,
        "connections": 0,
        "target": target,
        "errors": 0,
        "noise": 0.01,
        "first_p50_ms": 0.5,
        "first_p99_ms": 0.9,
        "gap_p99_ms": 21.0,
        "gap_max_ms": 23.0,
        "merged": 0,
    }
    if target != "direct":
        row |= {"added_first_p50_ms": 0.4, "added_first_p99_ms": 0.8}
        row |= {"added_p50_ms": 0.5, "added_p99_ms": 1.2}
    return row


@pytest.fixture
def result() -> dict[str, Any]:
    kinds = [("plain", 1), ("plain", 32), ("plain", 256), ("stream", 32)]
    measured = [closed(kind, count, target) for kind, count in kinds for target in COLUMNS]
    measured += [paced(kind, target) for kind in ("slow", "spaced") for target in COLUMNS]
    memory = {"rss_mb": 60.0, "pss_mb": 50.0, "uss_mb": 40.0, "total_pss_mb": 50.0, "workers": 1}
    return {
        "date": "2026-01-02 03:04 UTC",
        "machine": {"processor": "A CPU", "cores": 2, "memory_gb": 8, "system": "Linux"},
        "versions": {"Python": "3.11.7", "RouteIQ": "1.0.0", "TensorZero": "2026.6.0"},
        "method": {"generator": "wrk", "rounds": 7, "seconds": 2, "pinned": True},
        "columns": COLUMNS,
        "rows": measured,
        "memory": [memory, {**memory, "workers": 4, "total_pss_mb": 110.0}],
        "tree_memory": {"litellm": memory},
        "startup": {"first_answer_s": 0.8, "slowest_s": 0.9, "cpu_s": 0.7, "times": 5},
        "decision": {"auto_us": 30.0, "named_us": 9.0, "auto_candidates": 10},
    }


def verdict(result: dict[str, Any], words: str) -> tuple[float, bool]:
    [found] = [one for one in judge(result) if words in one.what]
    return found.value, found.met


def test_bounds_that_hold_are_met(result: dict[str, Any]) -> None:
    assert verdict(result, "CPU per chat completion, 32") == (0.2, True)
    assert verdict(result, "CPU per stream of 20") == (0.2, True)
    assert verdict(result, "each further worker") == (20.0, True)
    assert verdict(result, "(target)") == (1.2, True)


def test_another_gateway_must_need_a_multiple_of_ours(result: dict[str, Any]) -> None:
    value, met = verdict(result, "chat completion: LiteLLM proxy")
    assert value == pytest.approx(45.0)
    assert met
    value, met = verdict(result, "chat completion: TensorZero")
    assert value == pytest.approx(0.75)
    assert not met


def test_a_gateway_that_was_not_measured_is_not_judged(result: dict[str, Any]) -> None:
    assert not [one for one in judge(result) if "Portkey" in one.what]


def test_errors_and_held_back_events_fail(result: dict[str, Any]) -> None:
    worse = deepcopy(result)
    for row in worse["rows"]:
        if row["target"] == "routeiq":
            row["errors"] = 1
            row["merged"] = 2
    assert verdict(worse, "failed requests") == (6, False)
    assert verdict(worse, "events held back") == (2, False)


def test_page_has_date_machine_versions_and_every_column(result: dict[str, Any]) -> None:
    text = page(result)
    assert "2026-01-02 03:04 UTC on 2 cores of A CPU" in text
    assert "TensorZero 2026.6.0" in text
    assert "| chat completion, 32 | 0.200 (0.180 to 0.220) | 0.100" in text
    assert "**not met**" in text
    for title in COLUMNS.values():
        assert title in text
    assert "costs 2.0 times the bare pass-through" in text


def test_page_of_one_processor_and_our_generator_says_so(result: dict[str, Any]) -> None:
    result["method"] |= {"generator": "python", "pinned": False}
    text = page(result)
    assert "wrk is not installed" in text
    assert "has only one" in text


def test_what_an_error_costs_is_neither_shown_nor_judged(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        if row["target"] == "litellm" and row["scenario"] == "plain":
            row["errors"] = 3
    result["fails"] = {"tensorzero": ["stream", "spaced"]}
    result["rows"] = [
        row
        for row in result["rows"]
        if not (row["target"] == "tensorzero" and row["scenario"] in ("stream", "spaced"))
    ]
    text = page(result)
    assert (
        "| chat completion, 32 | 0.200 (0.180 to 0.220) | 0.100 (0.090 to 0.110) | 3 errors |"
        in text
    )
    assert "| stream, 20 chunks at once, 32 |" in text
    assert "| 9 (8.10 to 9.90) | fails |" in text
    assert "| TensorZero | fails | - |" in text
    assert not [one for one in judge(result) if "chat completion: LiteLLM" in one.what]


def test_page_of_a_busy_machine_warns(result: dict[str, Any]) -> None:
    assert "was busy" not in page(result)
    for row in result["rows"]:
        row["noise"] = 0.4
    assert "was busy with other work (40% of it" in page(result)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (1.5, "1.50"), (25.04, "25.0"), (1234.5, "1,234"), (3.0, "3")],
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text
    assert signed(-value) == f"-{text}"


def numbers(target: float, direct: float, noise: float) -> dict[str, dict[str, float]]:
    common = {"noise": noise, "errors": 0.0}
    return {
        "direct": {**common, "p50_ms": direct, "cpu_ms": 0.0},
        "bare": {**common, "p50_ms": direct, "cpu_ms": 0.1},
        "routeiq": {**common, "p50_ms": target, "cpu_ms": 0.3},
    }


def test_quiet_rounds_count_and_noisy_ones_are_repeated() -> None:
    rounds = iter([numbers(9, 1, 0.5), numbers(2, 1, 0.0), numbers(8, 1, 0.4), numbers(3, 1, 0.1)])
    kept = quiet_rounds(lambda: next(rounds), 2, 4)
    assert [one["routeiq"]["p50_ms"] for one in kept] == [2, 3]


def test_where_it_never_gets_quiet_the_quietest_rounds_count() -> None:
    rounds = iter([numbers(9, 1, 0.5), numbers(8, 1, 0.4), numbers(7, 1, 0.6)])
    kept = quiet_rounds(lambda: next(rounds), 2, 3)
    assert [one["routeiq"]["p50_ms"] for one in kept] == [8, 9]


def test_rows_are_medians_of_differences_within_a_round() -> None:
    made = rows("plain", 32, [numbers(2, 1, 0), numbers(10, 8, 0), numbers(5, 2, 0)])
    assert [one["target"] for one in made] == ["direct", "bare", "routeiq"]
    assert made[2]["p50_ms"] == 5
    assert made[2]["added_p50_ms"] == 2  # not 5 - 2
    assert made[2]["cpu_of_bare"] == pytest.approx(3.0)
    assert "added_p50_ms" not in made[0]


def test_wrk_output_is_read_in_its_own_units() -> None:
    output = b"Running 1s test\nRESULT 1000 2000000 3 1500 9000 12000\n"
    assert parse_wrk(output) == Load(
        requests=1000, errors=3, seconds=2.0, p50_ms=1.5, p99_ms=9.0, max_ms=12.0
    )
    with pytest.raises(LoadError, match="no result"):
        parse_wrk(b"unable to connect")


def test_lua_strings_are_escaped() -> None:
    assert lua('a"b\\c\n') == '"a\\"b\\\\c\\n"'


def test_events_that_arrive_together_in_the_middle_are_held_back() -> None:
    spaced = [(0.0, 2), (0.02, 1), (0.04, 1), (0.06, 1), (0.0605, 3)]
    assert merged(spaced) == 0
    assert merged([(0.0, 2), (0.04, 2), (0.06, 1), (0.08, 3)]) == 1


def test_quantiles_are_nearest_rank() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0], 0.99) == 3.0


def test_memory_that_jumps_early_levels_off_and_one_that_climbs_does_not() -> None:
    level = trend([(float(s), 40.0 + min(s, 30) + s % 2 * 0.1) for s in range(120)])
    assert level.level
    assert level.growth_mb == pytest.approx(0.0, abs=0.2)
    leak = trend([(float(s), 40.0 + s * 0.1) for s in range(120)])
    assert not leak.level
    assert leak.slope_mb_per_minute == pytest.approx(6.0)


def test_slow_callbacks_are_found_in_json_and_text_logs() -> None:
    log = (
        '{"message": "Executing <Handle a()> took 0.150 seconds"}\n'
        "Executing <Task finished> took 0.031 seconds\nExecuting nothing\n"
    )
    assert slow_callbacks(log) == [(150.0, "<Handle a()>"), (31.0, "<Task finished>")]
