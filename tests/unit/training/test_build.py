"""Building tables: matrices with holes, preferences, recorded vectors, mapped features."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from routeiq.routing.request import TEXT_LIMIT
from routeiq.strategies.prior import difficulty
from routeiq.training import build
from routeiq.training.build import build_table, request_of
from routeiq.training.errors import DataError
from routeiq.training.reading import read
from routeiq.training.records import Preference, Record
from routeiq.training.splits import text_hash
from routeiq.types import RoutingRequest

DATA = Path(__file__).parents[2] / "data" / "training"
NAN = float("nan")


class Fake:
    """Four features: the text's length, its words, its first character, one."""

    fingerprint = "fake-4"
    dimension = 4

    def many(self, requests: Sequence[RoutingRequest]) -> npt.NDArray[np.float32]:
        return np.array(
            [
                (len(one.text), len(one.text.split()), ord(one.text[0]) if one.text else 0, 1)
                for one in requests
            ],
            dtype=np.float32,
        )


RECORDS = [
    Record(id="a", task="x", text="Why?", scores={"n": 1.0, "m": 0.5}, costs={"m": 0.1}),
    Record(id="b", task="y", text="How so?", scores={"o": 0.0}, latencies={"o": 2.0}),
    Record(id="c", task="x", text="WHY?", scores={"m": 0.0}, output_tokens={"m": 7, "z": 1}),
]


def test_a_table_has_a_column_per_model_and_holes() -> None:
    table = build_table(RECORDS, features=Fake(), keep_texts=True)
    assert (table.ids, table.tasks, table.models) == (
        ("a", "b", "c"),
        ("x", "y", "x"),
        ("m", "n", "o"),
    )
    np.testing.assert_array_equal(
        table.scores, np.array([[0.5, 1, NAN], [NAN, NAN, 0], [0, NAN, NAN]], dtype=np.float32)
    )
    np.testing.assert_array_equal(
        table.costs, np.array([[0.1, NAN, NAN], [NAN] * 3, [NAN] * 3], dtype=np.float32)
    )
    assert table.latencies[1, 2] == 2
    assert table.output_tokens[2, 0] == 7
    assert table.features.tolist() == [
        [4, 1, ord("W"), 1],
        [7, 2, ord("H"), 1],
        [4, 1, ord("W"), 1],
    ]
    assert (table.fingerprint, table.texts) == ("fake-4", ("Why?", "How so?", "WHY?"))
    assert table.weights.tolist() == [1, 1, 1]
    assert table.groups[0] == table.groups[2] == text_hash("why?")
    assert table.prior.tolist() == pytest.approx([difficulty(request_of(one)) for one in RECORDS])
    assert all(
        getattr(table, name).dtype == np.float32
        for name in ("features", "scores", "costs", "prior", "weights", "preferences")
    )


def test_models_that_come_later_get_a_column_in_all_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = build_table(RECORDS, features=Fake())
    monkeypatch.setattr(build, "BATCH", 1)
    seen: list[int] = []
    single = build_table(RECORDS, features=Fake(), progress=seen.append)
    np.testing.assert_array_equal(single.scores, whole.scores)
    assert (single.models, single.digest, single.texts) == (whole.models, whole.digest, None)
    assert seen == [1, 2, 3, 3]


def test_the_digest_is_of_the_rows() -> None:
    digest = build_table(RECORDS, features=Fake()).digest
    assert len(digest) == 64
    assert build_table(iter(RECORDS), features=Fake()).digest == digest
    other = [*RECORDS[:2], replace(RECORDS[2], scores={"m": 0.01})]
    assert build_table(other, features=Fake()).digest != digest


def test_preferences_share_the_row_of_their_text() -> None:
    battles: list[Record | Preference] = [
        Preference(id="1", text="Why?", model_a="m", model_b="q", winner="a"),
        Preference(id="2", text="why? ", model_a="q", model_b="m", winner="tie"),
        RECORDS[0],
        Preference(id="3", text="When?", model_a="m", model_b="q", winner="b"),
    ]
    table = build_table(battles, features=Fake())
    assert (table.ids, table.models) == (("1", "a", "3"), ("m", "n", "q"))
    assert table.preferences.tolist() == [[0, 0, 2, 1], [0, 2, 0, 0.5], [2, 0, 2, 0]]
    assert np.isnan(table.scores[[0, 2]]).all()


def vector(*values: float) -> str:
    return b64encode(np.array(values, dtype="<f2").tobytes()).decode()


def live(features: Any, fingerprint: str = "fake-4", text: str = "") -> Record:
    extra = {"features": features, "fingerprint": fingerprint}
    return Record(id="d", text=text, scores={"m": 1.0}, chosen="m", extra=extra)


def test_recorded_vectors_are_used() -> None:
    table = build_table([live(vector(0, 0.5, -1, 2))], features=Fake())
    assert table.features.tolist() == [[0, 0.5, -1, 2]]
    (recorded,) = (
        build_table(read(DATA / "decision_log.jsonl"), features=Fake())
        .take(np.array([1]))
        .features.tolist()
    )
    assert recorded == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "features",
    [vector(1, 2, 3), vector(1, 2, 3, NAN), "!!", "AAA", 5, None],
)
def test_vectors_that_cannot_be_used_fall_back_to_the_text(features: Any) -> None:
    table = build_table([live(features, text="Why?")], features=Fake())
    assert table.features.tolist() == [[4, 1, ord("W"), 1]]
    with pytest.raises(DataError, match="no record with a score"):
        build_table([live(features)], features=Fake())


def test_vectors_of_other_features_are_not_mixed_in(caplog: pytest.LogCaptureFixture) -> None:
    rows = [live(vector(1, 2, 3, 4), "other"), RECORDS[0]]
    assert build_table(rows, features=Fake()).ids == ("a",)
    assert "1 records without a score or a text were left out" in caplog.text


def test_records_without_a_score_are_left_out() -> None:
    rows = [Record(id="z", text="Why?", scores={}, chosen="m"), *RECORDS]
    assert build_table(rows, features=Fake()).ids == ("a", "b", "c")
    with pytest.raises(DataError):
        build_table(rows[:1], features=Fake())


def test_rows_can_be_limited() -> None:
    assert build_table(RECORDS, features=Fake(), max_rows=2).ids == ("a", "b")


def test_large_features_are_mapped_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_table(RECORDS, features=Fake())
    monkeypatch.setattr(build, "BATCH", 1)
    monkeypatch.setattr(build, "MAPPED_BYTES", 16)
    mapped = build_table(RECORDS, features=Fake())
    assert isinstance(mapped.features, np.memmap)
    np.testing.assert_array_equal(mapped.features, whole.features)
    assert not isinstance(mapped.take(np.array([0])).features.base, np.memmap)


def test_texts_are_cut_as_in_serving() -> None:
    request = request_of(Record(id="a", text="x" * 3 * TEXT_LIMIT, scores={"m": 1}))
    assert len(request.text) == TEXT_LIMIT + 1
    assert (request.operation, request.model, request.turns) == ("chat", "auto", 1)
    assert request.input_tokens > 3 * TEXT_LIMIT / 4


def test_the_static_features_are_the_default() -> None:
    table = build_table(RECORDS)
    assert table.features.shape[1] > 256
    np.testing.assert_allclose(np.linalg.norm(table.features[:, :256], axis=1), 1, atol=1e-3)
