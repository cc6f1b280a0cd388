"""What the database keeps of one request: one JSON object, the same as a line of the decision log's files."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import Counter
from typing import Any, Literal

from routeiq.telemetry.decision_file import Encode
from routeiq.telemetry.decisions import Kept, attempt_details, decision_details
from routeiq.types import Capability, JsonObject, RoutingRequest

Features = Literal["none", "summary", "vector"]
_SAMPLE = 400
"""Characters that are looked at to name the script."""
_GLANCE = 8_000
"""Characters that are searched for code."""
_CODE = re.compile(r"\n[ \t]*(?:def|class|import|from|function|const|let|public|#include|SELECT)\b")
_IMAGES = frozenset({Capability.VISION})
_TOOLS = frozenset({Capability.TOOLS, Capability.PARALLEL_TOOLS})
_JSON = frozenset({Capability.JSON_OBJECT, Capability.JSON_SCHEMA})


def stored_record(
    kept: Kept, *, features: Features = "summary", text: bool = False, encode: Encode | None = None
) -> JsonObject:
    """The record with candidates, attempts and what may be kept of the prompt. For a thread, not for the loop.

    Feedback is no part of it: that has a table of its own. `encode` is used where `features` is `vector`.
    """
    record, request, decision, outcome = kept
    event: JsonObject = {
        "kind": "decision",
        **record,
        **decision_details(decision),
        "chosen": decision.chosen.group,
        "attempts_made": attempt_details(outcome.attempts),
    }
    event.pop("feedback", None)
    if features != "none":
        event["route_text_hash"] = hashlib.sha256(
            request.text.encode("utf-8", "surrogatepass")
        ).hexdigest()
        event["prompt"] = summary(request)
    if features == "vector" and encode is not None:
        fingerprint, values = encode(request)
        event["fingerprint"] = fingerprint
        event["features"] = base64.b64encode(values).decode()
    if text:
        event["route_text"] = request.text
    return event


def summary(request: RoutingRequest) -> dict[str, Any]:
    """Lengths in characters, and what kind of prompt it is, as far as a glance tells."""
    text = request.text
    return {
        "chars": len(text),
        "system_chars": len(request.system),
        "lines": text.count("\n") + 1 if text else 0,
        "turns": request.turns,
        "estimated_tokens": request.input_tokens,
        "script": script(text),
        "code": "```" in text or _CODE.search("\n" + text[:_GLANCE]) is not None,
        "tools": not request.needs.isdisjoint(_TOOLS),
        "images": not request.needs.isdisjoint(_IMAGES),
        "json": not request.needs.isdisjoint(_JSON),
    }


def script(text: str) -> str | None:
    """The writing that most letters belong to, by Unicode's names (`latin`, `cjk`); `None` without letters."""
    sample = text[:_SAMPLE]
    if sample.isascii():
        return "latin" if any(map(str.isalpha, sample)) else None
    counts = Counter(
        unicodedata.name(letter, "unknown").split(" ", 1)[0].lower()
        for letter in sample
        if letter.isalpha()
    )
    return counts.most_common(1)[0][0] if counts else None
