"""The JSON Schema of config.yaml, for editors: strict for `routeiq:`, permissive where LiteLLM is."""

from __future__ import annotations

from typing import Any

from .litellm_sections import ConfigFile
from .names import option_names
from .validation import SECTIONS

_FROM_ENVIRONMENT = {"type": "string", "pattern": r"^os\.environ/"}


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the whole file."""
    schema = ConfigFile.model_json_schema()
    table = option_names()
    definitions: dict[str, Any] = schema["$defs"]
    for section, model in SECTIONS.items():
        target = schema if section == "top" else definitions[model.__name__]
        for name, text in table.read.get(section, {}).items():
            target["properties"][name]["description"] = text
        for name, reason in sorted(table.reasons.get(section, {}).items()):
            target["properties"].setdefault(name, {"description": f"Not supported yet: {reason}."})
    for definition in definitions.values():
        definition["properties"] = {
            name: _or_environment(rule) for name, rule in definition.get("properties", {}).items()
        }
    schema["properties"] = {
        name: {"anyOf": [rule, {"type": "null"}]} for name, rule in schema["properties"].items()
    }
    schema["title"] = "RouteIQ config.yaml"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _or_environment(rule: dict[str, Any]) -> dict[str, Any]:
    """Numbers and switches may come from the environment as well."""
    if rule.get("type") in ("integer", "number", "boolean"):
        kept: dict[str, Any] = {
            key: rule.pop(key) for key in ("description", "default", "title") if key in rule
        }
        return {**kept, "anyOf": [rule, _FROM_ENVIRONMENT]}
    if any(one.get("type") in ("integer", "number", "boolean") for one in rule.get("anyOf", ())):
        return {**rule, "anyOf": [*rule["anyOf"], _FROM_ENVIRONMENT]}
    return rule
