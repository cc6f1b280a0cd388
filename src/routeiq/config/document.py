"""YAML with positions: every value knows the file and line it was written on.

Reads one file and what it includes, as LiteLLM does; replaces `os.environ/NAME`. Duplicate keys, unknown
tags and aliases that explode or contain themselves are problems, not tracebacks.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from routeiq.exceptions import ConfigError, Problem

Place = tuple[str | int, ...]
ENVIRON = "os.environ/"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MAX_NODES = 100_000
_MAX_DEPTH = 64
_TOO_DEEP = "values are nested too deeply, or an alias contains itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was written, included files merged in. `digest` is the SHA-256 of the bytes of `files`.

    `from_environ` has the places whose value came from the environment, with the variable's name; where
    it is not set, the value is `None`.
    """

    root: Mapping[str, Any] = field(default_factory=dict)
    marks: Mapping[Place, str] = field(default_factory=dict)
    from_environ: Mapping[Place, str] = field(default_factory=dict)
    digest: str = ""
    files: tuple[str, ...] = ()

    def where(self, place: Place) -> str:
        """`file:line` of the deepest part of a place that was written."""
        known = (self.marks.get(place[:length], "") for length in range(len(place), 0, -1))
        return next(filter(None, known), "")

    def at(self, place: Place) -> Any:
        """The value at a place, `None` where there is none."""
        node: Any = self.root
        for part in place:
            try:
                node = node[part]
            except (KeyError, IndexError, TypeError):
                return None
        return node


def read_document(path: Path, environ: Mapping[str, str], problems: list[Problem]) -> Document:
    """Read a file and its includes; what is found on the way is appended to `problems`.

    Raises:
        ConfigError: nothing can be understood of the main file.
    """
    digest = hashlib.sha256()
    root = _compose(path, digest)
    queue = [(path, node) for node in _take_includes(root, problems)]
    seen = {path.resolve()}
    for declared_in, node in queue:
        target, mark = declared_in.parent / node.value, _mark(node)
        if target.resolve() in seen:
            message = f"{node.value!r} was read already, in a loop or twice: it is read once."
            fix = "Remove this line."
            problems.append(
                Problem(key="include", message=message, fix=fix, file=mark, severity="warning")
            )
            continue
        seen.add(target.resolve())
        try:
            included = _compose(target, digest, mark)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        queue += [(target, nested) for nested in _take_includes(included, problems)]
        _merge(root, included)
    builder = _Builder(environ, problems)
    try:
        own = [pair for pair in root.value if pair[0].value == "environment_variables"]
        variables = builder.build(yaml.MappingNode(f"{_TAG}map", own), ())
        builder.environ = merged_environ(variables, environ)
        values = builder.build(root, ())
    except (yaml.MarkedYAMLError, RecursionError) as error:
        raise ConfigError([_syntax_problem(error, str(path))]) from None
    return Document(
        root=values,
        marks=builder.marks,
        from_environ=builder.origins,
        digest=digest.hexdigest(),
        files=(str(path), *(str(declared.parent / node.value) for declared, node in queue)),
    )


def merged_environ(root: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the file's `environment_variables` under it: the real one wins."""
    own = root.get("environment_variables")
    written = own.items() if isinstance(own, dict) else ()
    texts = {key: str(value) for key, value in written if isinstance(value, str | int | float)}
    return {**texts, **environ}


class _Named(io.StringIO):
    """Text with the name that the parser puts into its marks."""

    name: str


def _compose(path: Path, digest: hashlib._Hash, mark: str = "") -> Any:
    """A file as nodes; `mark` is where it was asked for."""
    try:
        raw = path.read_bytes()
        digest.update(raw)
        stream = _Named(raw.decode())
        stream.name = str(path)
        _check_depth(stream)
        stream.seek(0)
        root = yaml.compose(stream, Loader=_LOADER) or yaml.MappingNode(f"{_TAG}map", [])
    except OSError as error:
        message = f"cannot read {str(path)!r}: {error.strerror or error}."
        key = "include" if mark else "config"
        raise ConfigError([Problem(key=key, message=message, file=mark)]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})."
        raise ConfigError([Problem(key="", message=message, file=str(path))]) from None
    except yaml.YAMLError as error:
        raise ConfigError([_syntax_problem(error, str(path))]) from None
    if not isinstance(root, yaml.MappingNode):
        fix = "Start with a section such as `model_list:`."
        message = "is not a mapping."
        raise ConfigError([Problem(key="", message=message, fix=fix, file=_mark(root))])
    return root


def _check_depth(stream: _Named) -> None:
    """The composer of libyaml recurses in C: nested too deeply it would end the process, not raise."""
    depth = 0
    for event in yaml.parse(stream, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _error(_TOO_DEEP, event)


def _error(problem: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _syntax_problem(error: yaml.YAMLError | RecursionError, name: str) -> Problem:
    """The parser's own words, which quote no text of the file."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = (getattr(error, "context", None), getattr(error, "problem", None))
    words = ", ".join(part for part in said if part)
    if isinstance(error, RecursionError):
        words = _TOO_DEEP
    place = f"{mark.name}:{mark.line + 1}" if mark else name
    words = words or "it holds a character that is not allowed"
    return Problem(key="", message=f"is not usable YAML: {words}.", file=place)


def _mark(node: Any) -> str:
    return f"{node.start_mark.name}:{node.start_mark.line + 1}"


def _take_includes(root: Any, problems: list[Problem]) -> list[Any]:
    """Take `include` out of a file; the nodes of the files that it names."""
    taken = [value for key, value in root.value if key.value == "include"]
    root.value = [pair for pair in root.value if pair[0].value != "include"]
    found: list[Any] = []
    for node in taken:
        if isinstance(node, yaml.SequenceNode) and all(n.tag == f"{_TAG}str" for n in node.value):
            found += node.value
        elif node.tag != f"{_TAG}null":
            fix = "Write a list: lines that begin with `- `."
            message = "is not a list of files."
            problems.append(Problem(key="include", message=message, fix=fix, file=_mark(node)))
    return found


def _merge(base: Any, extra: Any) -> None:
    """Lists are joined, mappings merged; for anything else the included file wins."""
    places = {key.value: index for index, (key, _) in enumerate(base.value)}
    for key, value in extra.value:
        index = places.get(key.value)
        mine = None if index is None else base.value[index][1]
        if isinstance(mine, yaml.MappingNode) and isinstance(value, yaml.MappingNode):
            _merge(mine, value)
        elif isinstance(mine, yaml.SequenceNode) and isinstance(value, yaml.SequenceNode):
            mine.value = [*mine.value, *value.value]
        elif index is None:
            base.value.append((key, value))
        else:
            base.value[index] = (key, value)


class _Builder:
    """Turns nodes into values, marks, and the places that came from the environment."""

    def __init__(self, environ: Mapping[str, str], problems: list[Problem]) -> None:
        self.environ = environ
        self.marks: dict[Place, str] = {}
        self.origins: dict[Place, str] = {}
        self._problems = problems
        self._scalars = yaml.constructor.SafeConstructor()
        self._flat: set[int] = set()
        self._budget = _MAX_NODES

    def build(self, node: Any, place: Place) -> Any:
        """The value of a node."""
        self._budget -= 1
        if self._budget < 0 or len(place) > _MAX_DEPTH:
            problem = "the file's aliases unfold to too much" if self._budget < 0 else _TOO_DEEP
            raise _error(problem, node)
        if node.tag == f"{_TAG}map" and isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if node.tag == f"{_TAG}seq" and isinstance(node, yaml.SequenceNode):
            return [self._child(item, item, (*place, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _child(self, key: Any, value: Any, place: Place) -> Any:
        self.marks[place] = _mark(key)
        return self.build(value, place)

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        if id(node) not in self._flat:  # an alias comes here again
            self._flat.add(id(node))
            self._check_keys(node)
            self._scalars.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key, value in reversed(node.value):  # what `<<` brought in stands first, and loses
            if key.value not in result:
                result[key.value] = self._child(key, value, (*place, key.value))
        return dict(reversed(result.items()))

    def _check_keys(self, node: Any) -> None:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error("a key is not plain text", key)
            if key.value in seen:
                message, fix = "is written twice here.", "Keep one of the two."
                found = Problem(key=key.value, message=message, fix=fix, file=_mark(key))
                self._problems.append(found)
            seen.add(key.value)

    def _scalar(self, node: Any, place: Place) -> Any:
        if node.tag == f"{_TAG}timestamp":
            return node.value  # `api_version: 2024-10-21` is text
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, ArithmeticError):
            raise _error(f"cannot read a value as {node.tag}", node) from None
        if isinstance(value, str) and value.startswith(ENVIRON):
            self.origins[place] = value.removeprefix(ENVIRON)
            return self.environ.get(self.origins[place]) or None
        return value
