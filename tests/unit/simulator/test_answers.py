from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest

from routeiq.simulator import Behaviour, SimulatedModel
from routeiq.simulator.answers import answer, embedding, embeddings, example
from routeiq.simulator.behaviour import PLAIN
from routeiq.simulator.prompt import Prompt

MODEL = SimulatedModel(name="m", quality={"*": 1.0}, output_tokens=30, reasoning_tokens=7)
WRONG = SimulatedModel(name="w", quality={"*": 0.0})
EMBEDDER = SimulatedModel(name="e", embedding_dimensions=64)


def test_the_answer_says_whether_it_is_right() -> None:
    assert answer(MODEL, Prompt(), PLAIN).text.startswith("Right answer by m: ")
    assert answer(WRONG, Prompt(), PLAIN).text.startswith("Wrong answer by w: ")


def test_length_is_the_models_and_reasoning_is_added() -> None:
    found = answer(MODEL, Prompt(), PLAIN)
    assert len(found.text) == 30 * 4
    assert (found.output_tokens, found.reasoning_tokens) == (37, 7)


def test_the_clients_limit_cuts_the_answer() -> None:
    found = answer(MODEL, Prompt(max_tokens=5), PLAIN)
    assert (found.finish_reason, len(found.text)) == ("length", 20)
    assert answer(MODEL, Prompt(max_tokens=30), PLAIN).finish_reason == "stop"


def test_pieces_are_the_text() -> None:
    found = answer(MODEL, Prompt(stream=True), Behaviour(chunks=7))
    assert len(found.pieces) == 7
    assert "".join(found.pieces) == found.text
    assert len(answer(MODEL, Prompt(stream=True), PLAIN).pieces) == 30


def test_a_long_answer_has_its_length() -> None:
    assert len(answer(MODEL, Prompt(), Behaviour(tokens=20_000)).text) == 80_000


def test_the_content_filter_changes_the_finish_reason() -> None:
    assert answer(MODEL, Prompt(), Behaviour(content_filter=1)).finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {"a": "text"}),
        ({"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        ({"type": "array"}, []),
        ({"type": ["boolean", "null"]}, True),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 5}, 5),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}}, 1),
        ({"$ref": "#/$defs/none"}, {}),
    ],
)
def test_example_fits_its_schema(schema: dict[str, Any], value: object) -> None:
    assert example(schema) == value


def test_a_recursive_schema_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert example(node)["next"]["next"] is not None


def cosine(left: str, right: str) -> float:
    pairs = zip(embedding(left, 256), embedding(right, 256), strict=True)
    return sum(a * b for a, b in pairs)


def test_alike_texts_have_alike_unit_vectors() -> None:
    assert cosine("the cat sat down", "the cat sat down") == pytest.approx(1.0, abs=1e-5)
    assert cosine("the cat sat down", "the cat sat up") > 0.5
    assert abs(cosine("the cat sat down", "quarterly revenue forecast")) < 0.5


def test_embeddings_as_base64_are_the_same_floats() -> None:
    floats = embeddings(EMBEDDER, {"input": "a b c"})[0]["embedding"]
    packed = embeddings(EMBEDDER, {"input": "a b c", "encoding_format": "base64"})[0]["embedding"]
    assert array("f", base64.b64decode(packed)).tolist() == floats
    assert len(floats) == 64


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2)]
)
def test_one_entry_an_input(given: object, count: int) -> None:
    data = embeddings(EMBEDDER, {"input": given})
    assert [entry["index"] for entry in data] == list(range(count))


def test_dimensions_can_be_asked_for() -> None:
    assert len(embeddings(EMBEDDER, {"input": "a", "dimensions": 8})[0]["embedding"]) == 8
    assert len(embeddings(EMBEDDER, {"input": "a", "dimensions": -1})[0]["embedding"]) == 64
