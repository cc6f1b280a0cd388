from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routeiq.artifacts.errors import InvalidArtifact
from routeiq.artifacts.tensors import ALIGNMENT, DTYPES, MAX_HEADER, decode, encode


def joined(arrays: dict[str, Any]) -> bytes:
    return b"".join(bytes(part) for part in encode(arrays))


def crafted(header: Any, data: bytes = b"", *, length: int | None = None) -> memoryview:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": list(shape) if isinstance(shape, tuple) else shape,
        "data_offsets": list(offsets) if isinstance(offsets, tuple) else offsets,
    }


@pytest.mark.parametrize("code", DTYPES.values())
def test_every_dtype_comes_back_as_it_was(code: str) -> None:
    array = np.array([[0, 1, 0], [1, 1, 0]]).astype(code)
    back = decode(memoryview(joined({"a": array})))["a"]
    assert back.dtype == np.dtype(code)
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4)])
def test_every_shape_comes_back(shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    back = decode(memoryview(joined({"a": array, "b": np.ones(3, np.int8)})))
    assert back["a"].shape == shape
    np.testing.assert_array_equal(back["a"], array)


def test_the_bytes_are_those_of_the_published_layout() -> None:
    raw = joined({"a": np.array([1.0, 2.0], np.float32)})
    (length,) = struct.unpack_from("<Q", raw)
    assert json.loads(raw[8 : 8 + length]) == {"a": entry()}
    assert raw[8 + length :] == struct.pack("<2f", 1.0, 2.0)
    assert (8 + length) % ALIGNMENT == 0


def test_data_is_aligned_and_has_no_holes_as_the_layout_demands() -> None:
    raw = joined({"a": np.ones(3, np.int8), "b": np.ones((2, 2)), "c": np.ones(1, np.int16)})
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    position = 0
    for name, found in header.items():
        assert found["data_offsets"][0] == position
        assert name.startswith("_pad.") or position % ALIGNMENT == 0
        position = found["data_offsets"][1]
    assert position == len(raw) - 8 - length
    assert sorted(decode(memoryview(raw))) == ["a", "b", "c"]


def test_big_endian_and_strided_arrays_are_written_as_their_values() -> None:
    arrays = {"big": np.array([1, 2], ">i4"), "turned": np.arange(6.0).reshape(2, 3).T}
    back = decode(memoryview(joined(arrays)))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


def test_views_cannot_be_written_and_are_not_copies() -> None:
    raw = bytearray(joined({"a": np.array([1, 2], np.uint8)}))
    back = decode(memoryview(raw))["a"]
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 9
    raw[-1] = 7
    assert back.tolist() == [1, 7]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": np.array(["text"])}, "dtype"),
        ({"a": np.array([1j])}, "dtype"),
        ({"a": np.array([None])}, "dtype"),
        ({"_pad.0": np.ones(1)}, "called"),
        ({"": np.ones(1)}, "called"),
        ({str(n): np.ones(1, np.int8) for n in range(5000)}, "too many"),
    ],
)
def test_what_the_layout_has_no_place_for_is_not_written(arrays: Any, says: str) -> None:
    with pytest.raises(InvalidArtifact, match=says):
        encode(arrays)


EIGHT = bytes(8)
HOSTILE = {
    "too short": (memoryview(b"1234567"), "too few"),
    "header longer than the file": (crafted({}, length=100), "claims 100"),
    "huge header": (crafted(b"", length=2**63), "claims"),
    "header over the limit": (crafted(b" " * (MAX_HEADER + 1)), "limit"),
    "not JSON": (crafted(b"{"), "not JSON"),
    "not UTF-8": (crafted(b'{"\xff": 1}'), "not JSON"),
    "not an object": (crafted([]), "not a JSON object"),
    "deep nesting": (crafted(b"[" * 100_000), "not JSON"),
    "NaN": (crafted(b'{"a": NaN}'), "not JSON"),
    "a name twice": (
        crafted(b'{"a":%(e)b,"a":%(e)b}' % {b"e": json.dumps(entry()).encode()}, EIGHT),
        "twice",
    ),
    "entry not an object": (crafted({"a": 1}), "must have"),
    "a field too many": (crafted({"a": entry() | {"x": 1}}, EIGHT), "must have"),
    "unknown dtype": (crafted({"a": entry("F8_E4M3")}, EIGHT), "unknown dtype"),
    "dtype not text": (crafted({"a": entry([])}, EIGHT), "unknown dtype"),
    "object dtype": (crafted({"a": entry("O", (1,))}, EIGHT), "unknown dtype"),
    "negative shape": (crafted({"a": entry(shape=(-2,))}, EIGHT), "shape"),
    "true as a length": (crafted({"a": entry("F64", [True])}, EIGHT), "shape"),
    "float shape": (crafted({"a": entry(shape=[2.0])}, EIGHT), "shape"),
    "shape not a list": (crafted({"a": entry(shape="2")}, EIGHT), "shape"),
    "too many dimensions": (crafted({"a": entry("F64", (1,) * 9)}, EIGHT), "shape"),
    "product that would overflow": (
        crafted({"a": entry(shape=(2**32, 2**32), offsets=(0, 0))}),
        "needs",
    ),
    "number too large for an index": (crafted({"a": entry(shape=(2**63,))}, EIGHT), "shape"),
    "wrong size": (crafted({"a": entry(shape=(3,))}, EIGHT), "needs 12"),
    "end outside": (crafted({"a": entry(offsets=(0, 9))}, EIGHT), "outside"),
    "end before begin": (crafted({"a": entry(offsets=(8, 0))}, EIGHT), "outside"),
    "negative begin": (crafted({"a": entry(offsets=(-8, 0))}, EIGHT), "outside"),
    "three offsets": (crafted({"a": entry(offsets=(0, 8, 8))}, EIGHT), "outside"),
    "overlap": (
        crafted({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
        "overlap",
    ),
    "same bytes twice": (crafted({"a": entry(), "b": entry()}, EIGHT), "overlap"),
    "hole": (crafted({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "hole"),
    "data before the first": (crafted({"a": entry(offsets=(1, 9))}, bytes(9)), "hole"),
    "data after the last": (crafted({"a": entry()}, bytes(9)), "belong to none"),
    "truth value 2": (crafted({"a": entry("BOOL", (1,), (0, 1))}, b"\x02"), "truth"),
    "more arrays than allowed": (
        crafted({str(n): entry("U8", (0,), (0, 0)) for n in range(5000)}),
        "limit",
    ),
}


@pytest.mark.parametrize(("raw", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused(raw: memoryview, says: str) -> None:
    with pytest.raises(InvalidArtifact, match=says):
        decode(raw)


def test_metadata_that_other_writers_add_is_no_array() -> None:
    raw = crafted({"__metadata__": {"format": "np"}, "a": entry()}, struct.pack("<2f", 1, 2))
    assert decode(raw)["a"].tolist() == [1.0, 2.0]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_is_refused_or_read_within_bounds(data: st.DataObject) -> None:
    raw = bytearray(joined({"a": np.arange(4, dtype=np.int16), "b": np.ones((2, 3))}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(memoryview(bytes(raw)))
    except InvalidArtifact:
        return
    assert sum(array.nbytes for array in found.values()) <= len(raw)
    for array in found.values():
        array.tobytes()
