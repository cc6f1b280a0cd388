"""Names, address rules, TLS, proxies, and what the pool does over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from routeiq.exceptions import ConnectFailed, EgressDenied, UpstreamTimeout
from routeiq.ports import Timeouts
from routeiq.providers.egress import AddressRules
from routeiq.providers.http_client import NativeHttpClient
from tests.support.clock import FakeClock
from tests.support.scripted_server import Peer, ScriptedServer, always_ok, answer, serving

pytestmark = pytest.mark.anyio
PATIENT = Timeouts(connect_s=5, first_byte_s=5, idle_s=5)
LOOPBACK = AddressRules(allow_private=True)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


class Names:
    """A resolver that answers from a script and counts; the last answer stays."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(0.01)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def call(client: NativeHttpClient, url: str, timeouts: Timeouts = PATIENT) -> bytes:
    return await (await client.send("POST", url, (), b"{}", timeouts)).read()


async def test_tls_to_the_pinned_address_verifies_the_name(
    authority: trustme.CA, ca_file: str
) -> None:
    asked: list[str | None] = []
    tls = server_tls(authority, "api.example")
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with serving(always_ok, tls=tls) as server:
        client = NativeHttpClient(ca_file=ca_file, resolve=Names(["127.0.0.1"]), rules=LOOPBACK)
        url = f"https://API.example:{server.port}/v1"
        assert [await call(client, url) for _ in range(3)] == [b"ok"] * 3
        assert asked == ["api.example"]
        assert b"\r\nhost: api.example:%d\r\n" % server.port in server.peers[0].requests[0]
        await client.close()


@pytest.mark.parametrize("problem", ["wrong host", "untrusted authority", "no tls"])
async def test_tls_problem_is_a_failed_connection(
    authority: trustme.CA, ca_file: str, problem: str
) -> None:
    name = "other.example" if problem == "wrong host" else "api.example"
    tls = None if problem == "no tls" else server_tls(authority, name)

    async def bad_request(peer: Peer) -> None:
        await peer.say(answer(status=b"400 Bad Request"))
        await peer.gone()

    async with serving(bad_request, tls=tls) as server:
        client = NativeHttpClient(
            ca_file=None if problem == "untrusted authority" else ca_file,
            resolve=Names(["127.0.0.1"]),
        )
        with pytest.raises(ConnectFailed, match=r"api\.example") as caught:
            await call(client, f"https://api.example:{server.port}/v1")
        assert not caught.value.sent
        await client.close()


async def test_giving_up_a_tls_response_frees_its_slot(authority: trustme.CA, ca_file: str) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await peer.gone()

    async with serving(stall, tls=server_tls(authority, "api.example")) as server:
        client = NativeHttpClient(ca_file=ca_file, resolve=Names(["127.0.0.1"]), max_connections=1)
        for _ in range(3):
            response = await client.send(
                "POST", f"https://api.example:{server.port}/", (), b"", PATIENT
            )
            response.close()
        await client.close()


async def test_unreadable_ca_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No such file"):
        NativeHttpClient(ca_file=str(tmp_path / "missing.pem"))


async def test_refused_connection_and_unknown_name_are_failed_connections() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        names = Names(OSError("no such name"), [], ["127.0.0.1"])
        client = NativeHttpClient(resolve=names)
        for reason in ("cannot resolve", "no address", "no connection to api.example"):
            with pytest.raises(ConnectFailed, match=reason) as caught:
                await call(client, f"http://api.example:{port}/?key=sk-secret")
            assert not caught.value.sent
            assert "secret" not in str(caught.value)
        await client.close()


async def test_addresses_are_tried_in_order() -> None:
    async with serving(always_ok) as server:
        client = NativeHttpClient(resolve=Names(["127.0.0.2", "::1", "127.0.0.1"]))
        assert await call(client, f"http://api.example:{server.port}/") == b"ok"
        await client.close()


@pytest.mark.parametrize("phase", ["connect", "total"])
async def test_slow_names_and_full_pools_count_as_connecting(phase: str) -> None:
    limits = Timeouts(connect_s=0.1) if phase == "connect" else Timeouts(total_s=0.1)

    async def never(host: str) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    client = NativeHttpClient(resolve=never)
    with pytest.raises(UpstreamTimeout, match=f"{phase} timeout of 0.1 s") as caught:
        await call(client, "http://api.example/", limits)
    assert (caught.value.phase, caught.value.sent) == (phase, False)
    async with serving(always_ok) as server:
        full = NativeHttpClient(max_connections=1)
        unread = await full.send("POST", server.url, (), b"", PATIENT)
        for _ in range(3):
            with pytest.raises(UpstreamTimeout, match=f"{phase} timeout"):
                await call(full, server.url, limits)
        assert await unread.read() == b"ok"
        assert await call(full, server.url) == b"ok"
        assert len(server.peers) == 1
        await full.close()


async def test_no_more_connections_than_allowed_and_everybody_is_served() -> None:
    async def slow(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.005)
            await peer.say(answer())

    async with serving(slow) as server:
        client = NativeHttpClient(max_connections=3)
        replies = await asyncio.gather(*(call(client, server.url) for _ in range(30)))
        assert replies == [b"ok"] * 30
        assert len(server.peers) == 3
        await client.close()


async def test_idle_connections_are_closed_after_their_time() -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer())
        await peer.gone()
        gone.set()

    async with serving(script) as server:
        client = NativeHttpClient(keepalive_s=0.05)
        assert await call(client, server.url) == b"ok"
        await asyncio.wait_for(gone.wait(), 2)
        await client.close()


async def test_close_cuts_idle_connections_and_lets_used_ones_end() -> None:
    async with serving(always_ok) as server:
        client = NativeHttpClient()
        used = await client.send("POST", server.url, (), b"", PATIENT)
        assert await call(client, server.url) == b"ok"
        await client.close()
        await asyncio.wait_for(server.peers[1].ended.wait(), 2)
        assert await used.read() == b"ok"
        await asyncio.wait_for(server.peers[0].ended.wait(), 2)
        for url in (server.url, f"{server.url}/new", "http://127.0.0.1:1/"):
            with pytest.raises(ConnectFailed, match="client is closed"):
                await call(client, url)


async def test_a_name_is_looked_up_once_for_many_and_again_after_its_time(clock: FakeClock) -> None:
    async with serving(always_ok) as server:
        names = Names(OSError("temporary"), ["127.0.0.1"])
        client = NativeHttpClient(resolve=names, clock=clock, keepalive_s=1)
        url = f"http://api.example:{server.port}/"
        first = await asyncio.gather(*(call(client, url) for _ in range(5)), return_exceptions=True)
        assert [type(reply) for reply in first] == [ConnectFailed] * 5
        assert await asyncio.gather(*(call(client, url) for _ in range(5))) == [b"ok"] * 5
        assert len(names.asked) == 2  # the failure was not remembered, the answer was
        clock.advance(29)
        await call(client, url)
        assert len(names.asked) == 2
        clock.advance(2)
        await call(client, url)
        assert len(names.asked) == 3
        await client.close()


async def test_literals_are_not_looked_up() -> None:
    async with serving(always_ok) as server:
        names = Names(["192.0.2.1"])
        client = NativeHttpClient(resolve=names)
        assert await call(client, server.url) == b"ok"
        with pytest.raises(ConnectFailed):
            await call(client, "http://[::1]:1/")
        assert names.asked == []
        await client.close()


async def test_the_system_resolves_names_by_default() -> None:
    async with serving(always_ok) as server:
        client = NativeHttpClient()
        assert await call(client, f"http://localhost:{server.port}/") == b"ok"
        with pytest.raises(ConnectFailed, match="cannot resolve"):
            await call(client, "http://name.invalid/")
        await client.close()


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]]
)
async def test_a_name_with_any_denied_address_is_denied(answers: list[str]) -> None:
    async with serving(always_ok) as server:
        client = NativeHttpClient(resolve=Names(answers), rules=AddressRules())
        with pytest.raises(EgressDenied, match=r"api\.example"):
            await call(client, f"http://api.example:{server.port}/")
        with pytest.raises(EgressDenied, match="loopback"):
            await call(client, server.url)
        assert server.peers == []
        await client.close()


async def test_a_name_that_changes_its_mind_is_connected_where_it_was_checked(
    clock: FakeClock,
) -> None:
    async with serving(always_ok) as server:
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        rules = AddressRules(cidrs=("127.0.0.1/32",))
        client = NativeHttpClient(resolve=names, rules=rules, clock=clock)
        url = f"http://rebind.example:{server.port}/"
        assert await call(client, url) == b"ok"
        assert names.asked == ["rebind.example"]  # one answer: checked, then connected to
        clock.advance(31)
        with pytest.raises(EgressDenied, match="cloud metadata"):
            await call(client, url)
        await client.close()


async def proxy(peer: Peer, target: ScriptedServer) -> None:
    """Forwards absolute-form requests by answering them; CONNECT opens a tunnel to `target`."""
    request = await peer.request()
    if not request.startswith(b"CONNECT "):
        await peer.say(answer(b"by proxy"))
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    await peer.say(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    try:
        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("checked", [False, True])
async def test_proxy(authority: trustme.CA, ca_file: str, scheme: str, checked: bool) -> None:
    tls = server_tls(authority, "api.example") if scheme == "https" else None
    async with (
        serving(always_ok, tls=tls) as target,
        serving(lambda peer: proxy(peer, target)) as hop,
    ):
        client = NativeHttpClient(
            ca_file=ca_file,
            proxy_url=f"http://user:p%40ss@127.0.0.1:{hop.port}",
            no_proxy=("", "internal.example"),
            rules=LOOPBACK if checked else None,
            resolve=Names(["127.0.0.1"]),
        )
        url = f"{scheme}://api.example:{target.port}/v1"
        body = await call(client, url)
        seen = hop.peers[0].requests[0]
        assert b"\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n" in seen
        if scheme == "http" and not checked:
            assert body == b"by proxy"
            assert seen.startswith(f"POST {url} HTTP/1.1\r\n".encode())
        else:  # with address rules the proxy gets the address that was checked, never a name
            assert body == b"ok"
            name = "127.0.0.1" if checked else "api.example"
            assert seen.startswith(f"CONNECT {name}:{target.port} HTTP/1.1\r\n".encode())
            assert await call(client, url) == b"ok"
        assert len(hop.peers) == 1
        await client.close()


@pytest.mark.parametrize(
    "exceptions", [("internal.example",), (".example",), ("*",), ("*.Example",)]
)
async def test_names_can_go_past_the_proxy(exceptions: tuple[str, ...]) -> None:
    async with serving(always_ok) as server:
        client = NativeHttpClient(
            proxy_url="http://127.0.0.1:1", no_proxy=exceptions, resolve=Names(["127.0.0.1"])
        )
        assert await call(client, f"http://llm.internal.example:{server.port}/") == b"ok"
        await client.close()


async def test_proxy_that_refuses_or_a_wrong_certificate_behind_it_is_a_failed_connection(
    authority: trustme.CA, ca_file: str
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer(b"", status=b"407 Proxy Authentication Required"))

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    tls = server_tls(authority, "other.example")
    async with serving(always_ok, tls=tls) as target:
        for hop, reason in (
            (refuse, "opened no tunnel: 407"),
            (hang_up, "opened no tunnel"),
            (lambda peer: proxy(peer, target), "through the proxy.*[Hh]ostname"),
        ):
            async with serving(hop) as server:
                client = NativeHttpClient(
                    ca_file=ca_file,
                    proxy_url=f"http://127.0.0.1:{server.port}",
                    max_connections=1,
                )
                for _ in range(2):
                    with pytest.raises(ConnectFailed, match=reason) as caught:
                        await call(client, f"https://api.example:{target.port}/")
                    assert not caught.value.sent
                await client.close()


@pytest.mark.parametrize("url", ["https://proxy:1", "proxy:3128", "http://", "socks5://proxy"])
def test_bad_proxy_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        NativeHttpClient(proxy_url=url)
