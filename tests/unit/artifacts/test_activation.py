from __future__ import annotations

import json

import pytest

from routeiq.artifacts.activation import Activation, Activations, parse
from routeiq.artifacts.errors import StoreError

A, B, C, D, E = (letter * 32 for letter in "abcde")


def test_promoting_remembers_the_last_three() -> None:
    state = Activation()
    for version in (A, B, C, D, E):
        state = state.promoted(version)
    assert (state.version, state.previous) == (E, (D, C, B))
    assert state.pinned == {E, D, C, B}
    assert state.promoted(E) == state
    assert state.promoted(C).previous == (E, D, B)


def test_rolling_back_withdraws_and_promoting_brings_back() -> None:
    state = Activation().promoted(A).promoted(B).rolled_back()
    assert state == Activation(version=A, withdrawn=(B,))
    last = state.rolled_back()
    assert last == Activation(withdrawn=(A, B))
    assert last.pinned == frozenset()
    assert last.promoted(B) == Activation(version=B, withdrawn=(A,))
    with pytest.raises(StoreError, match="nothing is promoted"):
        last.rolled_back()


def test_the_text_is_read_back() -> None:
    states = Activations().having("knn", Activation(version=A, previous=(B,), withdrawn=(C,)))
    states = states.having("mlp", Activation())
    assert parse(states.encoded()) == states
    assert parse(states.encoded()).of("other") == Activation()


def document(**entry: object) -> bytes:
    strategies = {"knn": {"version": A, "previous": [], "withdrawn": [], **entry}}
    return json.dumps({"schema": 1, "strategies": strategies}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": 2, "strategies": {}}',
        b'{"schema": 1, "strategies": []}',
        b'{"schema": 1, "strategies": {"knn": {}}}',
        b'{"schema": 1, "strategies": {"../x": {"version": "", "previous": []}}}',
        document(version="../../etc"),
        document(version=1),
        document(previous=["x"]),
        document(previous=[None]),
        document(withdrawn=["A" * 32]),
    ],
)
def test_what_the_store_does_not_write_is_refused(raw: bytes) -> None:
    with pytest.raises(StoreError, match=r"active\.json cannot be used.*Remove it"):
        parse(raw)
