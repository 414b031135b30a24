"""A real HTTP server on the loopback whose every answer a test decides."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias


class Exchange(BaseHTTPRequestHandler):
    """One request and what is sent back."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        record = Request(self.path, {key.lower(): value for key, value in self.headers.items()})
        self.server.site.requests.append(record)
        handler = self.server.site.routes.get(self.path.partition("?")[0])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if handler is None:
                self.reply(404, b"nothing here")
            else:
                handler(self, record)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is no place for a server's log."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer. ``_`` in header names stands for ``-``; ``Content_Length`` may lie."""
        self.send_response(status)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names.setdefault("Content-Length", str(len(body)))
        for name, value in names.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """Hang up in the middle of things."""
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]


Handler: TypeAlias = Callable[[Exchange, Request], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site


@dataclass
class Site:
    url: str = ""
    routes: dict[str, Handler] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def serve(self, path: str, data: bytes, **headers: str) -> str:
        """A plain file. Gives its URL."""
        self.routes[path] = lambda exchange, _: exchange.reply(200, data, **headers)
        return self.url + path

    def ranges(self, path: str, data: bytes, *, cut_after: list[int], etag: str = '"one"') -> str:
        """A file that can be resumed; the first answers break off after so many bytes each."""
        cuts = iter(cut_after)

        def handler(exchange: Exchange, request: Request) -> None:
            start, status = 0, 200
            if "range" in request.headers and request.headers.get("if-range") == etag:
                start, status = int(request.headers["range"].removeprefix("bytes=").rstrip("-")), 206
            body = data[start:]
            headers = {"ETag": etag, "Content_Length": str(len(body))}
            if status == 206:
                headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            cut = next(cuts, None)
            exchange.reply(status, body if cut is None else body[:cut], **headers)
            if cut is not None:
                exchange.cut()

        self.routes[path] = handler
        return self.url + path


@contextlib.contextmanager
def running() -> Iterator[Site]:
    with _Server(("127.0.0.1", 0), Exchange) as server:
        site = Site(f"http://127.0.0.1:{server.server_address[1]}")
        server.site = site
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
