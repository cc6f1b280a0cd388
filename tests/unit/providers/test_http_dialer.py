from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence

import pytest

from routeiq.exceptions import ConnectFailed, EgressDenied
from routeiq.providers.egress import AddressRules, split_url
from routeiq.providers.http_connection import Connection
from routeiq.providers.http_dialer import Dialer, keep_alive, parse_proxy
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio
URL = split_url("http://api.example:8080/v1")


class Network:
    """Stands in for the loop's `create_connection`: only `alive` answers, `deaf` never does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, alive: str, deaf: str = "") -> None:
        self.tried: list[str] = []
        self.alive = alive
        self.deaf = deaf
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", self.connect)

    async def connect(
        self, factory: Callable[[], Connection], host: str, port: int, **options: object
    ) -> tuple[asyncio.Transport, Connection]:
        self.tried.append(host)
        if host == self.deaf:
            await asyncio.Event().wait()
        if host != self.alive:
            raise ConnectionRefusedError(111, "refused")
        connection, transport = factory(), asyncio.Transport()
        connection.connection_made(transport)
        return transport, connection


def dialer(clock: FakeClock, *addresses: str, rules: AddressRules | None = None) -> Dialer:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Dialer(clock=clock, tls=tls, rules=rules, resolve=resolve, proxy=None)


async def test_addresses_are_tried_in_order_until_one_answers(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    network = Network(monkeypatch, alive="1.0.0.2")
    connection = await dialer(clock, "1.0.0.1", "1.0.0.2", "1.0.0.3").connect(URL, None)
    assert connection.origin == "api.example:8080"
    assert network.tried == ["1.0.0.1", "1.0.0.2"]


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    network = Network(monkeypatch, alive="1.0.0.2", deaf="1.0.0.1")
    deadline = asyncio.get_running_loop().time() + 0.02
    connection = await dialer(clock, "1.0.0.1", "1.0.0.2").connect(URL, deadline)
    assert not connection.closed
    assert network.tried == ["1.0.0.1", "1.0.0.2"]


async def test_failure_names_every_address_and_its_reason(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    Network(monkeypatch, alive="")
    with pytest.raises(
        ConnectFailed, match=r"api.example:8080: 1.0.0.1: .*refused; 1.0.0.2: .*refused"
    ):
        await dialer(clock, "1.0.0.1", "1.0.0.2").connect(URL, None)


async def test_nothing_is_connected_to_when_one_address_is_denied(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    network = Network(monkeypatch, alive="1.0.0.1")
    with pytest.raises(EgressDenied, match="private"):
        await dialer(clock, "1.0.0.1", "10.0.0.1", rules=AddressRules()).connect(URL, None)
    assert network.tried == []


@pytest.mark.parametrize(
    ("no_proxy", "host", "served"),
    [
        ((), "api.example", True),
        (("example",), "api.example", False),
        (("api.example",), "api.example", False),
        (("pi.example",), "api.example", True),
        (("10.0.0.1",), "10.0.0.1", False),
        (("*",), "api.example", False),
        (("",), "api.example", True),
    ],
)
def test_no_proxy_names_whole_labels(no_proxy: tuple[str, ...], host: str, served: bool) -> None:
    assert parse_proxy("http://proxy", no_proxy).serves(host) is served


def test_silent_connections_are_probed() -> None:
    with socket.socket() as connected:
        keep_alive(connected)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    keep_alive(connected)  # closed by now: no error
    keep_alive(None)
