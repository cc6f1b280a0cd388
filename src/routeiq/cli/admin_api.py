"""Talking to a running gateway's admin API, for the commands that change or show what runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

DEFAULT_URL = "http://127.0.0.1:4000"
BASE = "/routeiq/v1"
TIMEOUT_S = 30.0
Command = TypeVar("Command", bound=Callable[..., Any])


class AdminApiError(click.ClickException):
    """The gateway refused, or cannot be reached; `status` is 0 then."""

    def __init__(self, message: str, *, status: int = 0, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AdminApi:
    """One gateway. Each call is a connection of its own: commands make one or two.

    Args:
        url: where the gateway is, with a path before `/routeiq/v1` if it has one.
        key: the admin key, or a key with the permissions that the calls need.
    """

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AdminApiError(f"{url!r} is no URL of a gateway; write one like {DEFAULT_URL}.")
        try:
            self._port = parts.port
        except ValueError as error:
            raise AdminApiError(f"{url!r}: {error}.") from error
        self._url = url
        self._https = parts.scheme == "https"
        self._host = parts.hostname
        self._path = parts.path.rstrip("/")
        self._key = key

    def call(self, method: str, path: str, body: Any = None, if_match: int | None = None) -> Any:
        """The JSON answer; `path` begins after `/routeiq/v1` and is quoted already.

        Raises:
            AdminApiError: no answer, or an error.
        """
        headers = {"accept": "application/json"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        status, raw = self._exchange(method, f"{self._path}{BASE}{path}", data, headers)
        return self._answer(status, raw)

    def _exchange(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        kind = HTTPSConnection if self._https else HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, target, body=data, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except ValueError as error:  # http.client sends no header like that
            raise AdminApiError("The admin key has characters that no key has.") from error
        except (OSError, HTTPException) as error:
            raise AdminApiError(
                f"No gateway answers at {self._url}: {error}. Start one with `routeiq serve`, or give --url."
            ) from error
        finally:
            connection.close()

    def _answer(self, status: int, raw: bytes) -> Any:
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if 200 <= status < 300 and answer is not None:
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict):
            raise AdminApiError(
                f"{self._url} answered {status}, which is no answer of RouteIQ's admin API.",
                status=status,
            )
        message = str(error.get("message"))
        if status == 401:
            message += " Set LITELLM_MASTER_KEY or give --admin-key."
        raise AdminApiError(message, status=status, code=error.get("code"))


def path_of(*parts: str, **query: str | int | None) -> str:
    """A path of quoted parts, with the query parameters that are given."""
    given = {name: value for name, value in query.items() if value is not None}
    path = "".join("/" + quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(given)}" if given else path


def admin_options(command: Command) -> Command:
    """`--url`, `--admin-key` and `--json`, as the parameters `url`, `admin_key` and `as_json`."""
    url = click.option(
        "--url",
        envvar="ROUTEIQ_URL",
        show_envvar=True,
        default=DEFAULT_URL,
        show_default=True,
        help="Where the gateway is.",
    )
    key = click.option(
        "--admin-key",
        envvar="LITELLM_MASTER_KEY",
        show_envvar=True,
        help="Admin key, or a key with the permission.",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return url(key(as_json(command)))
