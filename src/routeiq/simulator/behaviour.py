"""How a request can be made to go wrong: `status=429;retry_after=1`, per request or process-wide."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import ApiError


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a request asks of the simulator beside an answer. The reference page shows each in use.

    Pauses are in milliseconds and win over the model's own speed; `retry_after` is in seconds, `cut`
    counts stream events or, in a plain body, bytes. `content_filter` is 1 for the finish reason, 400
    for the error. `fail_first` counts per `key`.
    """

    delay_ms: float = 0.0
    ttft_ms: float | None = None
    chunk_ms: float | None = None
    chunks: int | None = None
    tokens: int | None = None
    status: int | None = None
    retry_after: float | None = None
    hang: bool = False
    drip: float | None = None
    cut: int | None = None
    malformed: bool = False
    html: bool = False
    oversize: int = 0
    reset: bool = False
    close: bool = False
    gzip: bool = False
    chunked: bool | None = None
    fail_first: int = 0
    key: str = ""
    keepalive: bool = True
    content_filter: int = 0
    no_usage: bool = False


PLAIN = Behaviour()
_FAULTS = ("status", "hang", "cut", "malformed", "html", "reset", "close", "content_filter")
_TYPES: dict[str, Any] = {field.name: str(field.type) for field in fields(Behaviour)}


def parse(*texts: str) -> Behaviour:
    """Read `key=value;key=value`; later texts win, a bare key means 1.

    Raises:
        ApiError: 400, naming the key or value that is not known.
    """
    values: dict[str, Any] = {}
    for item in ";".join(texts).split(";"):
        if name := item.partition("=")[0].strip():
            values[name] = _value(name, item.partition("=")[2].strip() or "1")
    if values.get("fail_first") and values.keys().isdisjoint(_FAULTS):
        values["status"] = 500
    return Behaviour(**values) if values else PLAIN


def mended(behaviour: Behaviour) -> Behaviour:
    """The same without what makes a request fail: what `fail_first` turns into."""
    return replace(behaviour, **{name: getattr(PLAIN, name) for name in _FAULTS})


def _value(name: str, text: str) -> Any:
    kind = _TYPES.get(name)
    if kind is None:
        raise ApiError(400, f"Unknown behaviour {name!r}; known: {', '.join(_TYPES)}.")
    if kind == "str":
        return text
    try:
        number = float(text)
        if not 0 <= number <= 1e9:
            raise ValueError(text)
    except ValueError:
        raise ApiError(400, f"Behaviour {name!r} takes a number, not {text!r}.") from None
    if kind.startswith("float"):
        return number
    return number != 0 if kind.startswith("bool") else int(number)
