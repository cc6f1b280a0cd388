"""What a format is, and the small readers of fields that all formats share.

A format is data: how to recognise it by the keys of its first row, and a function from one row to whatever the
row says. A row that holds all models of a prompt becomes a `Record`; one that holds a single model becomes a
`Cell`, and `joining.py` puts the cells of a prompt together. Formats raise `BadRow` and nothing else.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Any

from routeiq.training.records import Preference, Record

Values = Mapping[str, Any]
_TRUE = frozenset({"true", "yes"})
_FALSE = frozenset({"false", "no"})
LONGEST_LIST = 1_000_000
"""Characters of a prompt that is looked at as the text of a Python list."""


class BadRow(Exception):
    """This row is not what its format says; the message tells a person why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a file. `header` has what stands once per file (the object around a list of records).

    `origin` names the file in ids: without the folders above it, so that ids are the same on every machine.
    """

    file: str
    number: int
    values: Values
    header: Values = field(default_factory=dict)
    origin: str = ""

    @property
    def place(self) -> str:
        """The id of a row that has none of its own."""
        return f"{self.origin or self.file}:{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one row of a long format says: one prompt, one model (or no model, for what concerns the prompt).

    `key` is what rows of the same prompt share. An empty `text` or `task` is filled from another row of the
    key; a score without `model` is for the model that was chosen there. Where `rated`, the score is a rating on a
    scale that only all ratings together show.
    """

    key: str
    id: str = ""
    text: str = ""
    task: str = ""
    model: str = ""
    score: float | None = None
    cost: float | None = None
    latency: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    chosen: bool = False
    rated: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


Item = Record | Preference | Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A file format: its name, how the keys of its first row look, and what a row of it means.

    `forbidden` says why nothing may be trained on it, where that is so.
    """

    name: str
    title: str
    matches: Callable[[Values], bool]
    convert: Callable[[Row], Iterable[Item]]
    forbidden: str = ""


def text(values: Values, *names: str, required: bool = True) -> str:
    """The first of these fields that is there, as a string."""
    for name in names:
        given = values.get(name)
        if given is None:
            continue
        if isinstance(given, str):
            if given.strip() or not required:
                return given
            raise BadRow(f"`{name}` is empty")
        raise BadRow(f"`{name}` must be a string, not {shown(given)}")
    if required:
        raise BadRow("there is no " + " or ".join(f"`{name}`" for name in names))
    return ""


def identifier(values: Values, *names: str, default: str) -> str:
    """The first of these fields as an id; numbers are written as text."""
    for name in names:
        given = values.get(name)
        if given is None or given == "":
            continue
        if isinstance(given, str | int) and not isinstance(given, bool):
            return str(given)
        if isinstance(given, float) and given.is_integer():
            return str(int(given))
        raise BadRow(f"`{name}` must be a string or a whole number, not {shown(given)}")
    return default


def number(given: Any, name: str) -> float | None:
    """A finite number; `None` where the cell is empty. True and false are 1 and 0."""
    if given is None or given == "":
        return None
    if isinstance(given, str):
        return _parsed(given.strip(), name)
    if not isinstance(given, bool | int | float):
        raise BadRow(f"`{name}` must be a number, not {shown(given)}")
    try:
        result = float(given)
    except OverflowError as error:
        raise BadRow(f"`{name}` is larger than any number that means something here") from error
    if not isfinite(result):
        raise BadRow(_not_finite(name, result))
    return result


def numbers(given: Any, name: str) -> dict[str, float]:
    """A map from models to numbers, without the models that have none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadRow(f"`{name}` must be an object of models and numbers, not {shown(given)}")
    found = {}
    for model, value in given.items():
        # The usual case first: a million rows have twenty million of these.
        quick = type(value) is float and isfinite(value)
        one = value if quick else number(value, f"{name}.{model}")
        if one is not None:
            found[str(model)] = one
    return found


def mapping(values: Values, name: str) -> Values:
    """A field that must be an object."""
    given = values.get(name)
    if not isinstance(given, Mapping):
        raise BadRow(f"`{name}` must be an object, not {shown(given)}")
    return given


def items(values: Values, name: str) -> list[Any]:
    """A field that must be a list."""
    given = values.get(name)
    if not isinstance(given, list):
        raise BadRow(f"`{name}` must be a list, not {shown(given)}")
    return given


def user_text(given: Any) -> str:
    """What the user asked: of a list of messages the last one of the user, of anything else the text."""
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        for message in reversed(given):
            if isinstance(message, str):
                return message
            if isinstance(message, Mapping) and message.get("role", "user") == "user":
                content = message.get("content")
                if isinstance(content, str):
                    return content
    raise BadRow(f"the prompt must be a text or a list of messages, not {shown(given)}")


_SHOT = re.compile(r"^(?:question|q|problem|input)\s*:", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(r"^(?:answer|a|solution|output)\s*:", re.IGNORECASE | re.MULTILINE)


def last_question(prompt: str) -> str:
    """The question of a benchmark prompt, without the examples before it.

    A prompt that is written as a Python list of turns counts by its last turn. In a turn that repeats
    "Question: ... Answer: ..." only what follows the last "Question:" is asked; the rest are examples.
    """
    prompt = _last_turn(prompt)
    starts = [match.start() for match in _SHOT.finditer(prompt)]
    if len(starts) < 2 or not _ANSWER.search(prompt, starts[0], starts[-1]):
        return prompt
    return prompt[starts[-1] :]


def _last_turn(prompt: str) -> str:
    looks_like_list = prompt.startswith(("['", '["')) and prompt.rstrip().endswith("]")
    if not looks_like_list or len(prompt) > LONGEST_LIST:
        return prompt
    try:
        turns = ast.literal_eval(prompt)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return prompt  # a text in brackets
    last = turns[-1] if isinstance(turns, list) and turns else None
    return last if isinstance(last, str) and last.strip() else prompt


def shown(given: Any) -> str:
    """A value for an error message: short, and nothing of a prompt that is not needed."""
    if given is None:
        return "null"
    if isinstance(given, bool | int | float):
        return repr(given)[:40]
    if isinstance(given, str):
        return repr(given[:40])
    return f"a value of type {type(given).__name__}"


def _parsed(given: str, name: str) -> float | None:
    if not given:
        return None
    lowered = given.lower()
    if lowered in _TRUE:
        return 1.0
    if lowered in _FALSE:
        return 0.0
    try:
        result = float(given)
    except ValueError:
        raise BadRow(f"`{name}` must be a number, not {shown(given)}") from None
    if not isfinite(result):
        raise BadRow(_not_finite(name, result))
    return result


def _not_finite(name: str, value: float) -> str:
    what = "NaN" if isnan(value) else "infinite"
    return f"`{name}` is {what}: leave out what was not measured"
