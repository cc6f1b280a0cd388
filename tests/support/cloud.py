"""A bucket on a real socket that boto3 and google-auth talk to: conditional and ranged reads, and faults."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Cloud:
    """A bucket over HTTP that answers as S3 and as GCS do, and can cut, refuse or ignore what it is asked."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.requests: list[dict[str, str]] = []
        self.cuts: list[int] = []
        self.status = 0
        self.ranges = True
        self.after_cut: Any = None
        self._count = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, key: str, data: bytes) -> None:
        self._count += 1
        self.objects[key] = (data, str(1_700_000_000 + self._count))

    def publish(self, folder: Path, prefix: str) -> None:
        """As the documentation says: manifest.json last."""
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        for path in sorted(files, key=lambda p: p.name == "manifest.json"):
            self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())

    def _handler(cloud) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_HEAD(self) -> None:
                cloud.answer(self)

            def do_GET(self) -> None:
                cloud.answer(self)

        return Handler

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(http.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        google = re.fullmatch(r"/storage/v1/b/bucket/o/([^/]+)", parts.path)
        key = unquote(google[1] if google else parts.path.removeprefix("/bucket/"))
        headers = {name.lower(): value for name, value in http.headers.items()}
        self.requests.append({"method": http.command, "key": key, **query, **headers})
        if self.status:
            return self._send(http, self.status)
        if key not in self.objects:
            return self._send(http, 404)
        data, mark = self.objects[key]
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        shown = mark if google else etag
        wanted = query.get("ifGenerationMatch") or headers.get("if-match")
        if wanted not in (None, shown):
            return self._send(http, 412)
        if (query.get("ifGenerationNotMatch") or headers.get("if-none-match")) == shown:
            return self._send(http, 304)
        if google and query.get("alt") != "media":
            text = json.dumps({"generation": mark, "size": str(len(data))}).encode()
            return self._send(http, 200, text)
        return self._data(http, data, {"ETag": etag, "x-goog-generation": mark}, headers)

    def _data(
        self,
        http: BaseHTTPRequestHandler,
        data: bytes,
        extra: dict[str, str],
        asked: dict[str, str],
    ) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        start = int(found[1]) if found and self.ranges else 0
        status = 206 if start else 200
        if start:
            extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(http, status, data[start:], extra)

    def _send(
        self,
        http: BaseHTTPRequestHandler,
        status: int,
        body: bytes = b"",
        extra: dict[str, str] | None = None,
    ) -> None:
        http.send_response(status)
        for name, value in (extra or {}).items():
            http.send_header(name, value)
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        if http.command == "HEAD":
            return
        if self.cuts and len(body) > 1_000_000:
            http.wfile.write(body[: self.cuts.pop(0)])
            http.wfile.flush()
            http.close_connection = True
            if self.after_cut is not None:
                self.after_cut()
            http.connection.shutdown(socket.SHUT_RDWR)
            return
        http.wfile.write(body)
