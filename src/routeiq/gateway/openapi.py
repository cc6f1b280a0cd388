"""The OpenAPI document of the data plane and the admin API: `openapi.json` beside this file.

Request bodies name what the gateway itself needs and let the rest through, as the gateway does.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson

from routeiq._version import __version__


def document() -> dict[str, Any]:
    """OpenAPI 3.1, with the version that is running."""
    text = (files("routeiq.gateway") / "openapi.json").read_bytes()
    found: dict[str, Any] = orjson.loads(text)
    found["info"]["version"] = __version__
    return found
