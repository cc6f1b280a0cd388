"""`routeiq.upstreams.proxy_url` and `no_proxy`, both values, against a forward proxy that records."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import StartGateway
from tests.integration.helpers import chat, entry, get
from tests.support.processes import Gateway, SimulatorProcess


class Forward(BaseHTTPRequestHandler):
    """Passes a POST with an absolute target on, and remembers who asked for what."""

    seen: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        self.seen.append((self.path, self.headers["proxy-authorization"]))
        target = urlsplit(self.path)
        onward = http.client.HTTPConnection(target.netloc, timeout=10)
        body = self.rfile.read(int(self.headers["content-length"]))
        onward.request("POST", target.path, body, {"content-type": "application/json"})
        answer = onward.getresponse()
        data = answer.read()
        onward.close()
        self.send_response(answer.status)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[ThreadingHTTPServer]:
    Forward.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def through(
    start: StartGateway, sim: SimulatorProcess, proxy: ThreadingHTTPServer, no_proxy: list[str]
) -> Gateway:
    url = f"http://me:secret-word@127.0.0.1:{proxy.server_port}"
    upstreams = {"proxy_url": url, "no_proxy": no_proxy}
    return start({"model_list": [entry("m", sim.url)], "routeiq": {"upstreams": upstreams}})


def test_calls_go_through_the_proxy_and_its_password_is_shown_to_nobody(
    start: StartGateway, sim: SimulatorProcess, proxy: ThreadingHTTPServer
) -> None:
    Forward.seen.clear()
    gateway = through(start, sim, proxy, [])
    assert chat(gateway, "m").status == 200
    assert Forward.seen == [(f"{sim.url}/v1/chat/completions", "Basic bWU6c2VjcmV0LXdvcmQ=")]
    shown = get(gateway, "/routeiq/v1/config").body.decode()
    assert f"http://127.0.0.1:{proxy.server_port}" in shown
    assert "secret-word" not in shown + gateway.log()


def test_hosts_in_no_proxy_are_called_directly(
    start: StartGateway, sim: SimulatorProcess, proxy: ThreadingHTTPServer
) -> None:
    Forward.seen.clear()
    assert chat(through(start, sim, proxy, ["127.0.0.1"]), "m").status == 200
    assert Forward.seen == []
    assert len(sim.requests()) == 1
