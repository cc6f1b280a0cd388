"""Model cards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from routeiq.artifacts.artifact import Draft, open_artifact, write_artifact
from routeiq.training.card import CARD, card_text, draft_of, with_card

DRAFT = Draft(
    strategy="knn",
    features="static-1",
    models=("a", "b`c"),
    arrays={"x": np.ones((2, 2), dtype=np.float32)},
    metrics={"aiq": 0.64123, "evaluation": {"rows": 10, "by": "me|you"}},
    data_sha256="ab" * 32,
)
CERTIFICATE = {
    "reference": "a",
    "epsilon": 0.01,
    "delta": 0.1,
    "tau": 0.05,
    "rows": 900,
    "saved": 0.25,
    "cost_weights": ["cheapest", 0.0],
}


def test_card_says_what_is_known_and_what_is_not() -> None:
    text = bytes(with_card(DRAFT).files[CARD]).decode()
    for part in (
        "knn router",
        "ab" * 32,
        "| aiq | 0.6412 |",
        "| evaluation.rows | 10 |",
        "me\\|you",
    ):
        assert part in text
    assert "Not stated." in text
    assert "routeiq models calibrate" in text
    assert "b'c" in text


def test_certificates_are_put_in_words() -> None:
    draft = Draft(
        strategy="knn", features="f", models=("a",), arrays={}, certificates=[dict(CERTIFICATE)]
    )
    text = bytes(with_card(draft).files[CARD]).decode()
    assert "Not worse than `a` by more than 0.01 with confidence 0.9" in text
    assert "25% of the cost saved" in text


def test_what_a_person_said_survives_a_new_version(tmp_path: Path) -> None:
    first = with_card(DRAFT, {"sources": ["our logs"], "licences": ["internal\nonly"]})
    write_artifact(tmp_path / "one", first)
    opened = open_artifact(tmp_path / "one")
    second = with_card(draft_of(opened), {"limits": ["German only"]})
    manifest = write_artifact(tmp_path / "two", second)
    text = open_artifact(tmp_path / "two").read(CARD).decode()
    assert text == card_text(manifest)
    assert "- our logs" in text
    assert "- internal only" in text
    assert "- German only" in text
    assert np.array_equal(open_artifact(tmp_path / "two").arrays["x"], DRAFT.arrays["x"])


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="no field 'licenses'"):
        with_card(DRAFT, {"licenses": ["x"]})
