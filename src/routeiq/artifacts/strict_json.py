"""JSON as untrusted files must be: no duplicate names, no NaN, no nesting that exhausts the stack."""

from __future__ import annotations

import json
from typing import Any


def loads(raw: bytes) -> Any:
    """Parse `raw`.

    Raises:
        ValueError: not JSON, not UTF-8, a name twice in one object (readers would differ), NaN or infinity,
            or nested too deeply.
    """
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_never)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r:.80} stands twice")
    return found


def _never(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
