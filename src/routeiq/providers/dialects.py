"""How each OpenAI-compatible provider differs from OpenAI: the records of `data/providers.json`.

Names are LiteLLM's. The reference page (docs/reference/providers.md) is generated from the same records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import orjson

from routeiq.types import Operation

Auth = Literal["bearer", "api-key", "none"]
PATHS: Mapping[Operation, str] = MappingProxyType(
    {
        "chat": "/chat/completions",
        "completions": "/completions",
        "embeddings": "/embeddings",
        "responses": "/responses",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A provider's way of speaking OpenAI's API.

    `base_url` is `None` where only the operator can know it; `base_suffix` is its end, added where it is
    missing. `key_variables` and `base_variables` are asked in order. `auth` "none": a key is sent if
    there is one, but not needed. `renames` has OpenAI's fields and the provider's (where a client sends
    both, the renamed one wins), `drops` are never sent, `unsupported` are dropped where the operator set
    `drop_params`. `new_max_models` (beginnings of names) insist on `max_completion_tokens`.
    `stream_usage`: `stream_options.include_usage` is understood. `model_prefix` goes before model names
    that have no slash. `azure`: URLs as Azure builds them.
    """

    name: str
    operations: frozenset[Operation]
    base_url: str | None = None
    key_variables: tuple[str, ...] = ()
    base_variables: tuple[str, ...] = ()
    auth: Auth = "bearer"
    renames: tuple[tuple[str, str], ...] = ()
    drops: frozenset[str] = frozenset()
    unsupported: frozenset[str] = frozenset()
    new_max_models: tuple[str, ...] = ()
    stream_usage: bool = True
    model_prefix: str = ""
    base_suffix: str = ""
    azure: bool = False
    note: str = ""


def _dialect(record: dict[str, Any]) -> Dialect:
    """The variables are `NAME_API_KEY` and `NAME_API_BASE` unless the record says otherwise."""
    stem = record["name"].upper().replace("-", "_")
    record["key_variables"] = tuple(record.get("key_variables", [f"{stem}_API_KEY"]))
    record["base_variables"] = tuple(record.get("base_variables", [f"{stem}_API_BASE"]))
    record["renames"] = tuple(record.get("renames", {}).items())
    record["new_max_models"] = tuple(record.get("new_max_models", ()))
    for key in ("operations", "drops", "unsupported"):
        record[key] = frozenset(record.get(key, ()))
    return Dialect(**record)


_RECORDS = orjson.loads((Path(__file__).parent / "data" / "providers.json").read_bytes())
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {record["name"]: _dialect(record) for record in _RECORDS["native"]}
)
LITELLM_PROVIDERS: frozenset[str] = frozenset(_RECORDS["litellm"])
"""LiteLLM's other providers: the LiteLLM lane translates for them."""
