"""The tables of names that stand as data beside this file, and what is said about a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """`Did you mean ...?` for the closest known name, or another way out."""
    found = get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f"Did you mean `{found[0]}`?" if found else otherwise


def _read(name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(files("routeiq.config").joinpath(name).read_bytes(), Loader=loader)  # noqa: S506


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingNames:
    """Environment variables that have no effect yet (what for), or not any more (what now)."""

    planned: Mapping[str, str]
    removed: Mapping[str, str]

    def replacement(self, name: str) -> str | None:
        """What to do instead of a variable that is gone; patterns that end in `*` come last."""
        for pattern, advice in self.removed.items():
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                return advice
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionNames:
    """LiteLLM's options by section: `reasons` for those that are not supported yet, texts of what is read."""

    reasons: Mapping[str, Mapping[str, str]]
    always: Mapping[str, frozenset[str]]
    on_by_default: frozenset[str]
    body_params: frozenset[str]
    read: Mapping[str, Mapping[str, str]]


@cache
def setting_names() -> SettingNames:
    """The table settings_names.yaml."""
    return SettingNames(**_read("settings_names.yaml"))


@cache
def option_names() -> OptionNames:
    """The table litellm_options.yaml."""
    table = _read("litellm_options.yaml")
    always = {section: frozenset(names) for section, names in table.pop("always").items()}
    read, on_by_default = table.pop("read"), frozenset(table.pop("on_by_default"))
    body_params = frozenset(table.pop("body_params"))
    reasons = {
        section: {name: reason for reason, names in groups.items() for name in names}
        for section, groups in table.items()
    }
    return OptionNames(
        reasons=reasons,
        always=always,
        on_by_default=on_by_default,
        body_params=body_params,
        read=read,
    )
