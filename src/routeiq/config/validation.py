"""From what was written to `ConfigFile`: every name and every value that is wrong, with its place."""

from __future__ import annotations

import re
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from routeiq.exceptions import Problem

from .base import Section
from .document import ENVIRON, Document, Place
from .litellm_sections import (
    ConfigFile,
    GeneralSettings,
    LiteLLMParams,
    LiteLLMSettings,
    ModelEntry,
    ModelInfo,
    RouterSettings,
)
from .names import near, option_names

SECTIONS: dict[str, type[BaseModel]] = {
    "top": ConfigFile,
    "router_settings": RouterSettings,
    "litellm_settings": LiteLLMSettings,
    "general_settings": GeneralSettings,
    "model_list": ModelEntry,
    "litellm_params": LiteLLMParams,
    "model_info": ModelInfo,
}
_SECRET = re.compile(
    r"key$|(^|ad_|api_|auth_|session_|identity_)token$|secret|passw|credential|headers$|extra_body"
    r"|environment_variables",
    re.IGNORECASE,
)
_NUMBER, _WHOLE = "Write a number.", "Write a whole number."
_SWITCH, _LINES = "Write true or false.", "Write `key: value` lines, indented, under it."
_LIST = "Write a list: lines that begin with `- `."
# pydantic's kinds of mistake that are better said by what to write.
_FIXES = {
    "string_type": "Write text.",
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "bool_parsing": _SWITCH,
    "bool_type": _SWITCH,
    "model_type": _LINES,
    "dict_type": _LINES,
    "tuple_type": _LIST,
    "frozen_set_type": _LIST,
}


def key_text(path: Place) -> str:
    """`model_list[0].litellm_params.model`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def is_secret(path: Place) -> bool:
    """Whether the value there must not be shown. A key may have been written where its settings belong."""
    return path[-2:-1] == ("keys",) or any(_SECRET.search(str(part)) for part in path)


def validate(document: Document, problems: list[Problem]) -> ConfigFile | None:
    """Check names, variables and values; `None` where a value is so wrong that nothing can be built."""
    unread = _check_names(document, problems)
    unset: set[Place] = set()
    for path, name in document.from_environ.items():
        if document.at(path) is None:
            unset.add(path)
            if not any(path[: len(skip)] == skip for skip in unread):
                message = f"the environment variable {name} is not set."
                fix = "Set it, or remove this line."
                problems.append(_problem(document, path, message, fix))
    try:
        # A section without content (`litellm_settings:`) counts as not written.
        return ConfigFile.model_validate({k: v for k, v in document.root.items() if v is not None})
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            path = tuple(p for p in detail["loc"] if not str(p).startswith(("<", "[")))
            if path not in unset:
                problems.append(_explain(document, path, detail["type"], detail["msg"]))
        return None


def _problem(
    document: Document, path: Place, message: str, fix: str, warn: bool = False
) -> Problem:
    return Problem(
        key=key_text(path),
        message=message,
        fix=fix,
        file=document.where(path),
        severity="warning" if warn else "error",
    )


def _explain(document: Document, path: Place, kind: str, said: str) -> Problem:
    if kind == "extra_forbidden":
        fix = near(
            str(path[-1]),
            _fields_beside(path),
            "docs/reference/config.md lists what there is.",
        )
        return _problem(document, path, "is not a known key.", fix)
    if kind == "missing":
        return _problem(document, path, "is missing.", "Add it.")
    value = document.at(path)
    if path in document.from_environ:
        shown = f"the value of {ENVIRON}{document.from_environ[path]}"
    elif is_secret(path) or isinstance(value, dict | list):
        shown = "the value"
    else:
        shown = repr(value)[:60]
    if kind in _FIXES:
        return _problem(document, path, f"{shown} cannot be used.", _FIXES[kind])
    said = said.removeprefix("Value error, ")
    message = f"{shown} cannot be used: {said[0].lower()}{said[1:]}."
    return _problem(document, path, message, "")


def _fields_beside(path: Place) -> set[str]:
    """The keys that are known where this one is written; all there are where that cannot be told."""
    kinds: list[Any] = [ConfigFile]
    for step in path[:-1]:
        kinds = [inner for kind in kinds for inner in _inside(kind, step)]
    here = {name for kind in kinds if is_model(kind) for name in kind.model_fields}
    return here or {name for each in Section.__subclasses__() for name in each.model_fields}


def _inside(kind: Any, step: str | int) -> list[Any]:
    """The types that may stand under one key (or at one index) of a type."""
    if is_model(kind):
        field = kind.model_fields.get(str(step))
        return [] if field is None else _alternatives(field.annotation)
    arguments = get_args(kind)
    return _alternatives(arguments[-1 if get_origin(kind) is dict else 0]) if arguments else []


def _alternatives(kind: Any) -> list[Any]:
    """A type without its `Annotated`, or the members of a union."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for member in get_args(kind) for inner in _alternatives(member)]
    return [kind]


def is_model(kind: Any) -> bool:
    """Whether this is a class of settings."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _check_names(document: Document, problems: list[Problem]) -> set[Place]:
    """Judge each name in LiteLLM's sections; returns the places that are not read."""
    places: list[tuple[Place, str]] = [((), "top")]
    places += [
        ((name,), name) for name in ("router_settings", "litellm_settings", "general_settings")
    ]
    entries = document.at(("model_list",))
    for index in range(len(entries) if isinstance(entries, list) else 0):
        places.append((("model_list", index), "model_list"))
        places += [(("model_list", index, name), name) for name in ("litellm_params", "model_info")]
    unread: set[Place] = set()
    for path, section in places:
        node = document.at(path)
        for name in node if isinstance(node, dict) else ():
            if name not in SECTIONS[section].model_fields:
                here = (*path, name)
                off = here not in document.from_environ and _is_off(node[name])
                judged = _judge(section, name, off)
                if judged is not None:
                    unread.add(here)
                    message, fix, warn = judged
                    if message:
                        problems.append(_problem(document, here, message, fix, warn))
    return unread


def _is_off(value: Any) -> bool:
    return value is None or value is False or value in ([], {}, "", 0)


def _judge(section: str, name: str, off: bool) -> tuple[str, str, bool] | None:
    """Message, fix and whether it is only a warning; an empty message where nothing need be said."""
    table = option_names()
    reasons = table.reasons.get(section, {})
    if section == "litellm_params" and name in table.body_params:
        return None
    if name in table.always.get(section, ()) or (section == "top" and name.startswith("x-")):
        return "", "", True
    if name in reasons:
        off = off and name not in table.on_by_default
        return ("" if off else f"not supported yet: {reasons[name]}."), "", True
    for other, model in SECTIONS.items():
        if (
            name in model.model_fields
            and other not in ("top", "model_info")
            and section != "model_info"
        ):
            return "does not belong here.", f"Move it under `{other}`.", False
    known = {*SECTIONS[section].model_fields, *reasons, *table.always.get(section, ())}
    if section == "litellm_params":
        fix = near(name, known | table.body_params, "")
        body = "To send it to the provider, put it under `litellm_params.extra_body`."
        return "is known neither to RouteIQ nor to LiteLLM.", fix or body, not fix
    if section == "model_info":  # operators keep notes of their own there
        fix = near(name, known, "")
        return ("is not a fact that RouteIQ reads.", fix, True) if fix else ("", "", True)
    return "is known neither to RouteIQ nor to LiteLLM.", near(name, known, "Remove it."), False
