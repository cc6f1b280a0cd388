"""The table of routes: exact paths first, then the admin API's paths with `{names}` in them, then prefixes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from routeiq.exceptions import MethodNotAllowed, NotFound, RequestError
from routeiq.gateway.asgi import Handler, Routes, Scope

Methods = dict[str, Handler]
_NONE: Methods = {}


class RouteTable:
    """Finds the handler of a request. Values of `{names}` are put into `scope["path_params"]`, URL-decoded."""

    def __init__(self, routes: Routes, prefixes: Mapping[str, Handler]) -> None:
        self._exact = {path: methods for path, methods in routes.items() if "{" not in path}
        self._prefixes = prefixes
        self._patterns: dict[int, list[tuple[list[str], Methods]]] = {}
        for path, methods in routes.items():
            if "{" in path:
                parts = path.split("/")
                self._patterns.setdefault(len(parts), []).append((parts, methods))

    def find(self, scope: Scope) -> Handler:
        """The handler.

        Raises:
            NotFound: no such route.
            MethodNotAllowed: the route has no such method; its `headers` say which it has.
        """
        path: str = scope["path"]
        methods = self._exact.get(path) or self._matched(scope, path)
        if not methods:
            raise NotFound(f"There is no route {scope['method']} {path[:200]!r}.")
        found = methods.get(scope["method"])
        if found is None:
            allowed = ", ".join(methods)
            error: RequestError = MethodNotAllowed(
                f"{path[:200]!r} takes {allowed}, not {scope['method']}."
            )
            error.headers = ((b"allow", allowed.encode()),)
            raise error
        return found

    def _matched(self, scope: Scope, path: str) -> Methods:
        # From the raw path where there is one: a name may hold an encoded slash.
        raw: bytes = scope.get("raw_path") or path.encode()
        given = raw.split(b"?", 1)[0].decode("latin-1").split("/")
        for parts, methods in self._patterns.get(len(given), ()):
            values = match(parts, given)
            if values is not None:
                scope["path_params"] = values
                return methods
        for prefix, handler in self._prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return {"GET": handler}
        return _NONE


def match(parts: list[str], given: list[str]) -> dict[str, str] | None:
    """The values of the names in a pattern, `None` where the path is another."""
    values = {}
    for part, value in zip(parts, given, strict=True):
        if part.startswith("{"):
            if not value:
                return None
            values[part[1:-1]] = unquote(value)
        elif part != value:
            return None
    return values
