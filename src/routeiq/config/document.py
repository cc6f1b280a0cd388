"""YAML with positions: every key knows the file and line it was written on.

Reads one file and what it includes, as LiteLLM does; replaces `os.environ/NAME`. Duplicate keys, unknown
tags and aliases that explode or contain themselves are problems, not tracebacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from routeiq.exceptions import ConfigError, Problem

Part = str | int
ENVIRON = "os.environ/"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_COLLECTIONS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_MAX_NODES = 200_000
_MAX_DEPTH = 64


class Map(dict[str, Any]):
    """A mapping that knows where each of its keys was written."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[Part, str] = {}


class List(list[Any]):
    """A sequence that knows where each of its items was written."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[Part, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was written, included files merged in. `digest` is the SHA-256 of the files' bytes.

    `from_environ` has the places whose value came from the environment, with the variable's name; where
    it is not set, the value is `None`.
    """

    root: Map
    digest: str = ""
    from_environ: Mapping[tuple[Part, ...], str] = field(default_factory=dict)

    def where(self, path: tuple[Part, ...]) -> str:
        """`file:line` of the deepest part of `path` that was written."""
        node: Any = self.root
        mark = ""
        for part in path:
            mark = getattr(node, "marks", {}).get(part, mark)
            node = child(node, part)
        return mark

    def at(self, path: tuple[Part, ...]) -> Any:
        """The value at a place, `None` where there is none."""
        node: Any = self.root
        for part in path:
            node = child(node, part)
        return node


def child(node: Any, part: Part) -> Any:
    """The value under a key or index, `None` where there is none."""
    if isinstance(node, Map):
        return node.get(str(part))
    if isinstance(node, List) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def read_document(path: Path, environ: Mapping[str, str], problems: list[Problem]) -> Document:
    """Read a file and its includes.

    Args:
        path: the main file.
        environ: where `os.environ/NAME` is looked up, after the file's own `environment_variables`.
        problems: what is found is appended.

    Raises:
        ConfigError: nothing can be understood of the main file.
    """
    digest = hashlib.sha256()
    root = _read_file(path, digest, problems)
    queue = [(entry, path) for entry in _includes(root, problems)]
    seen = {path.resolve()}
    while queue:
        (entry, mark), declared_in = queue.pop(0)
        target = declared_in.parent / entry
        if target.resolve() in seen:
            fix = "Remove this line."
            message = f"{entry!r} was read already, in a loop or twice: it is read once."
            problems.append(
                Problem(key="include", message=message, fix=fix, file=mark, severity="warning")
            )
            continue
        seen.add(target.resolve())
        try:
            included = _read_file(target, digest, problems, mark)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        queue.extend((nested, target) for nested in _includes(included, problems))
        _merge(root, included)
    origins: dict[tuple[Part, ...], str] = {}
    own = root.get("environment_variables")
    if isinstance(own, Map):
        _substitute(own, environ, ("environment_variables",), origins)
    _substitute(root, merged_environ(root, environ), (), origins)
    return Document(root=root, digest=digest.hexdigest(), from_environ=origins)


def merged_environ(root: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the file's `environment_variables` under it: the real one wins."""
    own = root.get("environment_variables")
    written = own.items() if isinstance(own, dict) else ()
    texts = {key: str(value) for key, value in written if isinstance(value, str | int | float)}
    return {**texts, **environ}


def _includes(root: Map, problems: list[Problem]) -> list[tuple[str, str]]:
    entries = root.pop("include", None)
    entries = [] if entries is None else entries
    mark = root.marks.get("include", "")
    if isinstance(entries, List) and all(isinstance(entry, str) for entry in entries):
        return [(entry, entries.marks.get(i, mark)) for i, entry in enumerate(entries)]
    if entries:
        fix = "Write a list: lines that begin with `- `."
        problems.append(
            Problem(key="include", message="is not a list of files.", fix=fix, file=mark)
        )
    return []


def _read_file(path: Path, digest: hashlib._Hash, problems: list[Problem], mark: str = "") -> Map:
    name = str(path)
    try:
        raw = path.read_bytes()
        digest.update(raw)
        node = yaml.compose(raw.decode(), Loader=_LOADER)
        if node is None:
            return Map()
        root = _Builder(name, problems).value(node, 0)
    except OSError as error:
        message = f"cannot read {name!r}: {error.strerror or error}."
        raise ConfigError(
            [Problem(key="include" if mark else "config", message=message, file=mark)]
        ) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text (byte {error.start})."
        raise ConfigError([Problem(key="", message=message, file=name)]) from None
    except (yaml.MarkedYAMLError, RecursionError) as error:
        raise ConfigError([_syntax_problem(error, name)]) from None
    except yaml.YAMLError:
        message = "holds a character that YAML does not allow."
        raise ConfigError([Problem(key="", message=message, file=name)]) from None
    if not isinstance(root, Map):
        fix = "Start with a section such as `model_list:`."
        raise ConfigError([Problem(key="", message="is not a mapping.", fix=fix, file=f"{name}:1")])
    return root


def _syntax_problem(error: yaml.MarkedYAMLError | RecursionError, name: str) -> Problem:
    """The parser's own words, which quote no text of the file."""
    if isinstance(error, RecursionError):
        return Problem(key="", message="is nested too deeply.", file=name)
    mark = error.problem_mark or error.context_mark
    line = f"{name}:{mark.line + 1}" if mark else name
    said = ", ".join(part for part in (error.context, error.problem) if part)
    return Problem(key="", message=f"is not usable YAML: {said}.", file=line)


class _Builder:
    """Turns composed nodes into values with marks."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._scalars = yaml.constructor.SafeConstructor()
        self._budget = _MAX_NODES

    def value(self, node: Any, depth: int) -> Any:
        self._budget -= 1
        if self._budget < 0:
            raise self._error("the file's aliases unfold to more than it may hold", node)
        if depth > _MAX_DEPTH:
            raise self._error("values are nested too deeply, or an alias contains itself", node)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            raise self._error(f"cannot read a value as {node.tag}", node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            items = List()
            for index, item in enumerate(node.value):
                items.append(self.value(item, depth + 1))
                items.marks[index] = self._mark(item)
            return items
        return self._scalar(node)

    def _mapping(self, node: Any, depth: int) -> Map:
        result = Map()
        merged = [value for key, value in node.value if key.tag == _MERGE]
        for source in self._merge_sources(merged):
            inherited = self.value(source, depth + 1)
            if not isinstance(inherited, Map):
                raise self._error("`<<` needs a mapping", source)
            for key, value in inherited.items():
                if key not in result:
                    result[key] = value
                    result.marks[key] = inherited.marks[key]
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error("a key is not plain text", key_node)
            key = key_node.value
            if key in own:
                message, fix = "is written twice here.", "Keep one of the two."
                file = self._mark(key_node)
                self._problems.append(Problem(key=key, message=message, fix=fix, file=file))
            own.add(key)
            result[key] = self.value(value_node, depth + 1)
            result.marks[key] = self._mark(key_node)
        return result

    @staticmethod
    def _merge_sources(merged: list[Any]) -> Iterator[Any]:
        for source in merged:
            yield from source.value if isinstance(source, yaml.SequenceNode) else (source,)

    def _scalar(self, node: Any) -> Any:
        if node.tag.endswith(":timestamp"):
            return node.value  # `api_version: 2024-10-21` is text
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError, ArithmeticError) as error:
            raise self._error(f"cannot read a value as {node.tag}", node) from error

    def _mark(self, node: Any) -> str:
        return f"{self._file}:{node.start_mark.line + 1}"

    @staticmethod
    def _error(problem: str, node: Any) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _merge(base: Map, extra: Map) -> None:
    """Lists are joined, mappings merged; for anything else the included file wins."""
    for key, value in extra.items():
        mine = base.get(key)
        if isinstance(mine, Map) and isinstance(value, Map):
            _merge(mine, value)
        elif isinstance(mine, List) and isinstance(value, List):
            mine.marks.update({len(mine) + i: mark for i, mark in value.marks.items()})  # type: ignore[operator]
            mine.extend(value)
        else:
            base[key] = value
            base.marks[key] = extra.marks[key]


def _substitute(
    node: Map | List,
    environ: Mapping[str, str],
    path: tuple[Part, ...],
    origins: dict[tuple[Part, ...], str],
) -> None:
    """Replace `os.environ/NAME` in place; a variable that is not set leaves nothing."""
    places = list(node.items()) if isinstance(node, Map) else list(enumerate(node))
    for part, value in places:
        here = (*path, part)
        if isinstance(value, Map | List):
            _substitute(value, environ, here, origins)
        elif isinstance(value, str) and value.startswith(ENVIRON):
            name = value.removeprefix(ENVIRON)
            origins[here] = name
            node[part] = environ.get(name) or None  # type: ignore[index]
