"""Arrays in one file, in the safetensors layout: 8 bytes length, JSON header, raw little-endian data.

Layout: https://github.com/huggingface/safetensors (README, "Format"). It forbids holes, so arrays are aligned to
64 bytes (a cache line) by padding tensors `_pad.<n>` of bytes, which other readers show and this one hides.

Reading trusts nothing: the header's size, its JSON, every dtype, shape and offset are checked before a view is
made, with Python's unbounded integers, so that no product can overflow.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import strict_json
from .errors import InvalidArtifact

Array = npt.NDArray[Any]
ALIGNMENT = 64
MAX_HEADER = 1 << 20
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_INDEX = 2**62
_PADDING = "_pad."
DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "BOOL": "|b1",
        "U8": "|u1",
        "I8": "|i1",
        "U16": "<u2",
        "I16": "<i2",
        "F16": "<f2",
        "U32": "<u4",
        "I32": "<i4",
        "F32": "<f4",
        "U64": "<u8",
        "I64": "<i8",
        "F64": "<f8",
    }
)
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


def encode(arrays: Mapping[str, Array]) -> list[bytes | memoryview]:
    """The parts of a file that holds `arrays`, in the order of their names.

    Raises:
        InvalidArtifact: a name or a dtype that the layout has no place for.
    """
    header: dict[str, Any] = {}
    data: list[bytes | memoryview] = []
    position = 0
    for name in sorted(arrays):
        array, kind = _plain(name, arrays[name])
        if gap := -position % ALIGNMENT:
            header[f"{_PADDING}{len(header)}"] = _entry("U8", (gap,), position)
            data.append(bytes(gap))
            position += gap
        header[name] = _entry(kind, array.shape, position)
        if array.nbytes:
            data.append(array.reshape(-1).view(np.uint8).data)
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    if len(text) > MAX_HEADER or len(header) > MAX_TENSORS:
        raise InvalidArtifact(
            f"{len(arrays)} arrays are too many for one file: stack them into fewer."
        )
    return [struct.pack("<Q", len(text)), text, *data]


def decode(buffer: memoryview) -> dict[str, Array]:
    """Read-only views on `buffer`, which must stay mapped for as long as any of them lives.

    Raises:
        InvalidArtifact: anything that a well-formed file would not have.
    """
    if len(buffer) < 8:
        raise InvalidArtifact(f"{len(buffer)} bytes are too few for weights: the file is cut.")
    (length,) = struct.unpack_from("<Q", buffer)
    if length > MAX_HEADER or length > len(buffer) - 8:
        raise InvalidArtifact(
            f"the weights' header claims {length} bytes, the file has {len(buffer) - 8} "
            f"and the limit is {MAX_HEADER}."
        )
    header = _header(bytes(buffer[8 : 8 + length]))
    data = buffer[8 + length :].toreadonly()
    spans: list[tuple[int, int]] = []
    views: dict[str, Array] = {}
    for name, entry in header.items():
        kind, shape, begin, end = _checked(name, entry, len(data))
        spans.append((begin, end))
        if not name.startswith(_PADDING):
            views[name] = _view(name, data[begin:end], DTYPES[kind], shape)
    _tiled(spans, len(data))
    return views


def _plain(name: str, array: Array) -> tuple[Array, str]:
    if not name or len(name) > 200 or name.startswith(("_", ".")):
        raise InvalidArtifact(
            f"an array cannot be called {name!r}: 1 to 200 characters, not led by '_' or '.'."
        )
    kind = _NAMES.get(array.dtype.newbyteorder("<") if array.dtype.kind in "iuf" else array.dtype)
    if kind is None:
        allowed = ", ".join(np.dtype(code).name for code in DTYPES.values())
        raise InvalidArtifact(f"array {name!r} has dtype {array.dtype}: use one of {allowed}.")
    return np.require(array, dtype=DTYPES[kind], requirements="C"), kind


def _entry(kind: str, shape: tuple[int, ...], begin: int) -> dict[str, Any]:
    size = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
    return {"dtype": kind, "shape": list(shape), "data_offsets": [begin, begin + size]}


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = strict_json.loads(text)
    except ValueError as error:
        raise InvalidArtifact(f"the weights' header is not JSON: {error}.") from error
    if not isinstance(header, dict):
        raise InvalidArtifact("the weights' header is not a JSON object.")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise InvalidArtifact(f"the weights name {len(header)} arrays; the limit is {MAX_TENSORS}.")
    return header


def _checked(name: str, entry: Any, available: int) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidArtifact(f"array {name!r} must have dtype, shape and data_offsets only.")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise InvalidArtifact(f"array {name!r} has the unknown dtype {kind!r:.40}.")
    if not _indices(shape) or len(shape) > MAX_DIMENSIONS:
        raise InvalidArtifact(f"array {name!r} has the impossible shape {shape!r:.80}.")
    if not _indices(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= available:
        raise InvalidArtifact(
            f"array {name!r} lies at {offsets!r:.80}, outside of {available} bytes."
        )
    size = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
    if size != offsets[1] - offsets[0]:
        raise InvalidArtifact(
            f"array {name!r} of shape {shape} needs {size} bytes but has {offsets[1] - offsets[0]}."
        )
    return kind, tuple(shape), offsets[0], offsets[1]


def _indices(value: Any) -> bool:
    """A list of plain integers that fit an index (`True` is an int in Python, but not a length)."""
    return isinstance(value, list) and all(type(x) is int and 0 <= x <= MAX_INDEX for x in value)


def _view(name: str, data: memoryview, code: str, shape: tuple[int, ...]) -> Array:
    array: Array = np.frombuffer(data, dtype=np.uint8)
    if code == "|b1" and array.size and array.max() > 1:
        raise InvalidArtifact(f"array {name!r} has truth values other than 0 and 1.")
    view = array.view(code).reshape(shape)
    view.flags.writeable = False
    return view


def _tiled(spans: list[tuple[int, int]], available: int) -> None:
    """Arrays must cover the data exactly: an overlap or a hole is a header that lies."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            what = "overlap" if begin < position else "leave a hole"
            raise InvalidArtifact(f"arrays {what} at byte {begin}.")
        position = end
    if position != available:
        raise InvalidArtifact(f"{available - position} bytes after the last array belong to none.")
