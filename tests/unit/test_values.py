from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from routeiq.values import value


@value
class Point:
    x: int
    y: int = 2
    tags: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    x: int
    y: int = 2
    tags: frozenset[str] = frozenset()


def test_fields_defaults_equality_and_repr_are_a_dataclass_s() -> None:
    assert [f.name for f in fields(Point)] == [f.name for f in fields(Plain)]
    assert repr(Point(x=1)) == repr(Plain(x=1)).replace("Plain", "Point")
    assert Point(x=1) == Point(x=1, y=2)
    assert Point(x=1) != Point(x=2)
    assert hash(Point(x=1)) == hash(Point(x=1))
    assert replace(Point(x=1), y=5).total == 6


def test_it_is_frozen_and_slotted() -> None:
    point: Any = Point(x=1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2
    assert not hasattr(point, "__dict__")


@pytest.mark.parametrize("arguments", [{}, {"y": 1}, {"x": 1, "z": 1}])
def test_missing_and_unknown_arguments_are_errors(arguments: dict[str, int]) -> None:
    make: Any = Point
    with pytest.raises(TypeError):
        make(**arguments)


def test_arguments_are_keyword_only() -> None:
    make: Any = Point
    with pytest.raises(TypeError):
        make(1)


def test_a_default_factory_is_refused() -> None:

    with pytest.raises(TypeError, match="immutable default"):

        @value
        class Bad:
            items: list[int] = field(default_factory=list)
