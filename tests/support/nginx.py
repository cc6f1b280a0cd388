"""nginx in front of gateways: round robin, no affinity, and a second try where a gateway cannot be reached."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.http import call
from tests.support.processes import free_port, wait_until

BINARY = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_nginx = pytest.mark.skipif(BINARY is None, reason="nginx is not installed")
CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream gateways {{
{servers}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://gateways;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_next_upstream error timeout http_503 non_idempotent;
    }}
  }}
}}
"""


class Nginx:
    """A running nginx; `url` is its address."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        assert BINARY is not None
        self._folder = tempfile.TemporaryDirectory(prefix="routeiq-nginx-")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        servers = "\n".join(
            f"    server {one.removeprefix('http://')} max_fails=1 fail_timeout=1s;"
            for one in upstreams
        )
        path = Path(self._folder.name) / "nginx.conf"
        path.write_text(CONFIG.format(folder=self._folder.name, port=port, servers=servers))
        self._process = subprocess.Popen(
            [BINARY, "-e", f"{self._folder.name}/error.log", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def running(self) -> bool:
        return self._process.poll() is None

    def answers(self) -> bool:
        """Whether a gateway can be reached through it."""
        assert self.running(), self.log()
        try:
            return call(f"{self.url}/_health/ready", timeout=5.0).status == 200
        except OSError:
            return False

    def log(self) -> str:
        """What it complained about."""
        path = Path(self._folder.name) / "error.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


@contextmanager
def start_nginx(*upstreams: str) -> Iterator[Nginx]:
    """nginx in front of these addresses, ready; ended with the block."""
    with closing(Nginx(upstreams)) as nginx:
        wait_until(nginx.answers, "nginx passes requests on", 20.0)
        yield nginx
