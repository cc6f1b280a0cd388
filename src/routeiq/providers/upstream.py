"""One deployment as the hot path sees it: everything that does not depend on the request is computed once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from routeiq.exceptions import ConnectFailed, InvalidRequest
from routeiq.ports import Header
from routeiq.types import JsonObject, Operation

from .dialects import PATHS, Dialect

FORWARDED_HEADERS = frozenset({b"openai-beta"})
"""The client's headers that reach providers. Everything else could carry a secret or spoof the operator."""

_MAX_NAMES = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})
# Defaults of the operator that make sense for chat only, and would be refused elsewhere.
_EMBEDDING_DEFAULTS = frozenset({"dimensions", "encoding_format", "user"})
_NOT_IN_RESPONSES = frozenset(
    {"stop", "seed", "n", "logprobs", "logit_bias", "frequency_penalty", "presence_penalty"}
    | {
        "response_format",
        "stream_options",
        "reasoning_effort",
        "max_tokens",
        "max_completion_tokens",
    }
)
_ASKS_USAGE = frozenset({"chat", "completions"})

Urls = Mapping[Operation, tuple[str, str | None]]
"""The address of each operation served; with a second part, the model stands between the two."""


class Call(NamedTuple):
    """A request as it goes to the provider. `strip_usage`: the stream's usage is ours to take out."""

    url: str
    headers: tuple[Header, ...]
    body: bytes
    strip_usage: bool


class TokenFile:
    """A bearer token that something else rotates on disk (Entra workload identity)."""

    __slots__ = ("_header", "_mtime_ns", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._mtime_ns = -1
        self._header: Header = (b"authorization", b"Bearer ")

    def header(self) -> Header:
        """The header with the current token; the last good one while the file is being replaced.

        Raises:
            ConnectFailed: there never was a good one.
        """
        try:
            changed = os.stat(self._path).st_mtime_ns
            if changed != self._mtime_ns:
                with open(self._path, encoding="ascii") as file:
                    self._header = (b"authorization", b"Bearer " + header_value(file.read()))
                self._mtime_ns = changed
        except (OSError, ValueError) as error:
            if self._mtime_ns < 0:
                raise ConnectFailed(f"token file {self._path!r} cannot be read") from error
        return self._header


def header_value(text: str) -> bytes:
    """`text` without the white space around it, as a header's value.

    Raises:
        ValueError: it is empty or has characters that could start another header.
    """
    value = text.strip()
    if not value or not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII characters on one line, and not empty")
    return value.encode("ascii")


class Upstream:
    """Turns a client's body into a provider's request."""

    def __init__(
        self,
        *,
        dialect: Dialect,
        urls: Urls,
        headers: Iterable[Header],
        params: Mapping[str, Any],
        token_file: TokenFile | None = None,
        drops: Iterable[str] = (),
        drop_params: bool = False,
    ) -> None:
        self._urls = urls
        self._headers = tuple(headers)
        self._token = token_file
        self._prefix = dialect.model_prefix
        self._renames = dialect.renames
        self._new_max = dialect.new_max_models
        unsupported = dialect.unsupported if drop_params else frozenset()
        self._drops = tuple(dialect.drops.union(drops, unsupported))
        self._ask_usage = dialect.stream_usage and "stream_options" not in self._drops
        self._defaults = {name: tuple(_defaults(params, name).items()) for name in PATHS}

    def prepare(
        self,
        operation: Operation,
        body: JsonObject,
        model: str,
        *,
        stream: bool,
        client_asked_usage: bool,
        client_headers: Sequence[Header] = (),
    ) -> Call:
        """The request for `model`. `body` is the client's and stays as it is: a fallback may need it again.

        Raises:
            InvalidRequest: the operation is not served, or the body is nested too deeply to be written.
        """
        sent = body.copy()
        prefix = self._prefix
        sent["model"] = prefix + model if prefix and "/" not in model else model
        self._fit(sent, operation, model)
        strip = stream and self._ask_usage and not client_asked_usage and operation in _ASKS_USAGE
        if strip:
            options = sent.get("stream_options")
            more = options if isinstance(options, dict) else {}
            sent["stream_options"] = {**more, "include_usage": True}
        headers = self._headers
        if self._token is not None:
            headers = (*headers, self._token.header())
        if client_headers:
            headers += tuple(one for one in client_headers if one[0] in FORWARDED_HEADERS)
        try:
            content = orjson.dumps(sent)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest(f"The body cannot be passed on: {error}.") from error
        return Call(self._url(operation, model), headers, content, strip)

    def _fit(self, sent: JsonObject, operation: Operation, model: str) -> None:
        """The operator's defaults in, the provider's names, what it must not get out."""
        for name, value in self._defaults[operation]:
            if name not in sent and (name not in _MAX_NAMES or _MAX_NAMES.isdisjoint(sent)):
                sent[name] = value
        if operation != "responses":
            for name, theirs in self._renames:
                if name in sent:
                    sent[theirs] = sent.pop(name)
            if self._new_max and "max_tokens" in sent and model.startswith(self._new_max):
                sent.setdefault("max_completion_tokens", sent.pop("max_tokens"))
        for name in self._drops:
            sent.pop(name, None)

    def _url(self, operation: Operation, model: str) -> str:
        if operation not in self._urls:
            raise InvalidRequest(
                f"The model's provider does not serve {PATHS[operation]}. Ask for another model.",
                param="model",
            )
        head, tail = self._urls[operation]
        return head if tail is None else f"{head}{quote(model, safe='')}{tail}"


def _defaults(params: Mapping[str, Any], operation: Operation) -> dict[str, Any]:
    """The operator's defaults that this operation knows, under the names it has for them."""
    if operation == "embeddings":
        return {name: value for name, value in params.items() if name in _EMBEDDING_DEFAULTS}
    if operation != "responses":
        return dict(params)
    longest = params.get("max_completion_tokens", params.get("max_tokens"))
    kept = {name: value for name, value in params.items() if name not in _NOT_IN_RESPONSES}
    return kept if longest is None else {"max_output_tokens": longest, **kept}
