from __future__ import annotations

from typing import Any

import pytest

from routeiq.exceptions import MethodNotAllowed, NotFound
from routeiq.gateway.asgi import Receive, Scope, Send
from routeiq.gateway.routes import RouteTable, match


def handler(name: str) -> Any:
    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("only looked up")

    handle.__name__ = name
    return handle


TABLE = RouteTable(
    {
        "/keys": {"GET": handler("list"), "POST": handler("create")},
        "/keys/{id}": {"GET": handler("read")},
        "/keys/{id}/rotate": {"POST": handler("rotate")},
        "/keys/self": {"GET": handler("mine")},
        "/{kind}/{id}/audit": {"GET": handler("audit")},
    },
    {"/models/": handler("model")},
)


def find(path: str, method: str = "GET", raw: bytes | None = None) -> tuple[str, dict[str, str]]:
    scope: dict[str, Any] = {"path": path, "method": method}
    if raw is not None:
        scope["raw_path"] = raw
    return TABLE.find(scope).__name__, scope.get("path_params", {})


@pytest.mark.parametrize(
    ("path", "method", "found", "values"),
    [
        ("/keys", "GET", "list", {}),
        ("/keys", "POST", "create", {}),
        ("/keys/a", "GET", "read", {"id": "a"}),
        ("/keys/self", "GET", "mine", {}),
        ("/keys/a/rotate", "POST", "rotate", {"id": "a"}),
        ("/users/b/audit", "GET", "audit", {"kind": "users", "id": "b"}),
        ("/models/openai/gpt-4", "GET", "model", {}),
    ],
)
def test_found(path: str, method: str, found: str, values: dict[str, str]) -> None:
    assert find(path, method) == (found, values)


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/keys/", "/keys/a/b", "/keys//rotate", "/keys/a/rotate/", "/models/"]
)
def test_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        find(path)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/keys", "DELETE", b"GET, POST"),
        ("/keys/a/rotate", "GET", b"POST"),
        ("/models/a", "POST", b"GET"),
    ],
)
def test_the_wrong_method_is_told_the_right_ones(path: str, method: str, allowed: bytes) -> None:
    with pytest.raises(MethodNotAllowed) as raised:
        find(path, method)
    assert raised.value.headers == ((b"allow", allowed),)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"/keys/a%2Fb", "a/b"),
        (b"/keys/%C3%A9", "é"),
        (b"/keys/a%20b?x=/y", "a b"),
        (b"/keys/100%25", "100%"),
        (b"/keys/..", ".."),
    ],
)
def test_names_may_hold_anything_that_is_encoded(raw: bytes, value: str) -> None:
    """The decoded path would be split at the slash."""
    assert find("/keys/" + value, raw=raw) == ("read", {"id": value})


def test_a_long_path_is_not_repeated_whole() -> None:
    with pytest.raises(NotFound) as raised:
        find("/" + "x" * 10_000)
    assert len(raised.value.message) < 300


def test_an_empty_value_is_no_match() -> None:
    assert match(["a", "{x}"], ["a", ""]) is None
    assert match(["a", "{x}"], ["b", "1"]) is None
    assert match(["a", "{x}"], ["a", "1"]) == {"x": "1"}
