from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routeiq.embeddings import features as module
from routeiq.embeddings import lexical, text
from routeiq.embeddings.features import Features, load_features
from routeiq.embeddings.static import DATA, EmbeddingError
from routeiq.types import Capability, RoutingRequest

REQUEST = RoutingRequest(id="r", operation="chat", model="m", text="Why is the sky blue?")


@pytest.fixture(scope="module")
def static() -> Features:
    return load_features()


def test_a_vector_is_an_embedding_of_unit_norm_and_the_lexical_features(static: Features) -> None:
    vector = static.one(REQUEST)
    assert vector.dtype == np.float32
    assert vector.shape == (static.dimension,) == (276,)
    assert float(np.linalg.norm(vector[: static.embedding_dimension])) == pytest.approx(
        1.0, abs=1e-5
    )
    assert len(static.names) == static.dimension
    assert vector[static.names.index("open question")] == pytest.approx(0.6)


def test_many_is_one_for_each(static: Features) -> None:
    requests = [
        replace(REQUEST, text=t) for t in ("", "Hi", "证明", "x" * 9000, "Prove that 2 = 2")
    ]
    rows = static.many(requests)
    assert rows.shape == (5, static.dimension)
    for request, row in zip(requests, rows, strict=True):
        np.testing.assert_array_equal(row, static.one(request))
    assert static.many([]).shape == (0, static.dimension)


def test_nothing_to_embed_is_finite(static: Features) -> None:
    vector = static.one(replace(REQUEST, text="\u200b", system="\u200b"))
    assert np.isfinite(vector).all()
    assert not vector[: static.embedding_dimension].any()


def test_examples_before_the_question_make_no_difference(static: Features) -> None:
    shots = "Q: How many legs has a spider?\nA: eight\n\nQ: And a fish?\nA: none\n\nQ: "
    asked = replace(REQUEST, text=shots + "Why is the sky blue?")
    np.testing.assert_array_equal(static.one(asked), static.one(REQUEST))


def test_the_system_prompt_colours_but_does_not_decide(static: Features) -> None:
    size = static.embedding_dimension
    plain = static.one(REQUEST)[:size]
    tutor = static.one(replace(REQUEST, system="You are a tutor of physics."))[:size]
    other = static.one(replace(REQUEST, text="Write a poem about my cat"))[:size]
    assert 0.9 < float(plain @ tutor) < 0.999
    assert float(plain @ other) < float(plain @ tutor)


def test_the_same_content_is_taken_from_the_cache() -> None:
    static = load_features()
    first = static.one(REQUEST)
    again = static.one(replace(REQUEST, id="other", caller="someone"))
    assert again is first
    assert (static.cache.hits, static.cache.misses) == (1, 1)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


def test_the_embeddings_of_system_prompts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GISTS", 4)
    static = load_features()
    for number in range(20):
        static.one(replace(REQUEST, system=f"You are assistant {number}."))
    assert len(static._gists) <= 4


def test_unknown_features_are_named() -> None:
    with pytest.raises(EmbeddingError, match="'dynamic'"):
        load_features("dynamic")


def test_the_fingerprint_is_the_same_every_time(static: Features) -> None:
    assert load_features().fingerprint == static.fingerprint
    assert static.fingerprint.startswith("static-256+20:")


def test_the_fingerprint_changes_with_the_table(static: Features, tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    table = np.load(tmp_path / "table.npy")
    table[5000, 0] ^= 1
    np.save(tmp_path / "table.npy", table)
    assert load_features(folder=tmp_path).fingerprint != static.fingerprint


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (lexical, "_KINDS", [(words - {b"prove"}, signs) for words, signs in lexical._KINDS]),
        (lexical, "_CHOICES", ("\nB.",)),
        (lexical, "_DIGITS", b"012345678"),
        (text, "EDGE", 512),
        (text, "SHOTS", 9),
        (text, "GIST", 16),
        (module, "GIST_WEIGHT", 0.5),
    ],
)
def test_the_fingerprint_changes_with_the_rules(
    static: Features, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, value: object
) -> None:
    monkeypatch.setattr(owner, name, value)
    assert load_features().fingerprint != static.fingerprint


def test_capabilities_reach_the_vector(static: Features) -> None:
    seen = static.one(replace(REQUEST, needs=frozenset({Capability.VISION})))
    assert seen[static.names.index("media")] == 1.0
