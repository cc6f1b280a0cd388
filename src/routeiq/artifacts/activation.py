"""Which version of each strategy is active: the content of active.json, and the steps that change it.

The steps are pure: they take a state and give the next one. The store reads, locks and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from . import strict_json
from .errors import StoreError
from .manifest import strategy_name, version_name

SCHEMA = 1
PREVIOUS_KEPT = 3
WITHDRAWN_KEPT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One strategy's state.

    `version` is the one promoted ("" if none is: the plain folder counts then), `previous` those before it,
    newest first, `withdrawn` those that were rolled back, which nothing promotes again by itself.
    """

    version: str = ""
    previous: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()

    @property
    def pinned(self) -> frozenset[str]:
        """The versions that must stay on the disk."""
        return frozenset({self.version, *self.previous} - {""})

    def promoted(self, version: str) -> Activation:
        """The state after `version` was made the active one."""
        if version == self.version:
            return self
        earlier = (self.version, *(v for v in self.previous if v != version))
        return Activation(
            version=version,
            previous=tuple(v for v in earlier if v)[:PREVIOUS_KEPT],
            withdrawn=tuple(v for v in self.withdrawn if v != version),
        )

    def rolled_back(self) -> Activation:
        """The state after the active version was withdrawn in favour of the one before, or of none.

        Raises:
            StoreError: nothing is promoted.
        """
        if not self.version:
            raise StoreError("nothing is promoted, so there is nothing to roll back.")
        withdrawn = (self.version, *(v for v in self.withdrawn if v != self.version))
        return Activation(
            version=self.previous[0] if self.previous else "",
            previous=self.previous[1:],
            withdrawn=withdrawn[:WITHDRAWN_KEPT],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """All strategies' states."""

    strategies: Mapping[str, Activation] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, strategy: str) -> Activation:
        """One strategy's state; the empty one if nothing was ever promoted."""
        return self.strategies.get(strategy, Activation())

    def having(self, strategy: str, state: Activation) -> Activations:
        """The states with one changed."""
        return replace(self, strategies={**self.strategies, strategy: state})

    def encoded(self) -> bytes:
        """The text of active.json."""
        document = {
            "schema": SCHEMA,
            "strategies": {
                name: {
                    "version": state.version,
                    "previous": list(state.previous),
                    "withdrawn": list(state.withdrawn),
                }
                for name, state in self.strategies.items()
            },
        }
        return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def parse(raw: bytes) -> Activations:
    """Read active.json.

    Raises:
        StoreError: it is not what the store writes.
    """
    try:
        document = strict_json.loads(raw)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r:.40}, not {SCHEMA}")
        states = {name: _state(name, entry) for name, entry in document["strategies"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"active.json cannot be used: {error}. Remove it and promote a version again."
        ) from error
    return Activations(strategies=states)


def _state(name: str, entry: dict[str, Any]) -> Activation:
    version, previous, withdrawn = entry["version"], entry["previous"], entry.get("withdrawn", [])
    listed = [*previous, *withdrawn, *([version] if version else [])]
    if not strategy_name(name) or not all(isinstance(v, str) and version_name(v) for v in listed):
        raise ValueError(f"the entry of {name!r:.80} is not versions")
    return Activation(version=version, previous=tuple(previous), withdrawn=tuple(withdrawn))
