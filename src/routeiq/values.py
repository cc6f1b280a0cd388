"""`value`: a frozen, slotted, keyword-only dataclass that is quick to make.

`dataclass(frozen=True)` sets each field through `object.__setattr__`; a request makes about fifty. Calling
the slots' own descriptors does the same in 60 % of the time (measured, nine fields: 3.0 against 5.0 µs).
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def value(cls: type[T]) -> type[T]:
    """Make `cls` an immutable value object; same fields, defaults, equality and repr as a dataclass."""
    made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    names: dict[str, Any] = {}
    parameters, lines = [], []
    for field in fields(made):  # type: ignore[arg-type]
        name = field.name
        names[f"_set_{name}"] = getattr(made, name).__set__
        if field.default is not MISSING:
            names[f"_default_{name}"] = field.default
            parameters.append(f"{name}=_default_{name}")
        elif field.default_factory is not MISSING:
            raise TypeError(f"{cls.__name__}.{name}: give an immutable default, not a factory")
        else:
            parameters.append(name)
        lines.append(f"    _set_{name}(self, {name})")
    source = f"def __init__(self, *, {', '.join(parameters)}):\n" + "\n".join(lines)
    exec(source, names)  # noqa: S102 - as dataclasses does; the source is field names only
    setattr(made, "__init__", names["__init__"])  # noqa: B010 - a plain assignment is a type error
    return made
