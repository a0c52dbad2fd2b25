"""A real HTTP server on this machine that misbehaves as it is told."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does."""

    content: bytes
    tag: str = '"one"'
    ranges: bool = True
    says_length: bool = True
    breaks: list[int] = field(default_factory=list)
    """After how many bytes of the body each of the next answers ends."""
    breaks_with: bytes = b""
    """What comes then on the wire, beneath TLS if there is any."""
    answers: list[int] = field(default_factory=list)
    """Status codes of the next answers that are errors."""
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    """Serves `behaviour.content` under every path."""

    behaviour: Behaviour

    def do_GET(self) -> None:
        does = self.behaviour
        wanted = self.headers.get("Range")
        does.asked.append(wanted)
        if does.answers:
            self.send_error(does.answers.pop(0))
            return
        start = 0
        if wanted and does.ranges and self.headers.get("If-Range") == does.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(does.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(does.content) - 1}/{len(does.content)}")
        if does.tag:
            self.send_header("ETag", does.tag)
        body = does.content[start:]
        if does.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if does.breaks:
            self.wfile.write(body[: does.breaks.pop(0)])
            self.wfile.flush()
            os.write(self.connection.fileno(), does.breaks_with)
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the screen."""


@contextmanager
def serving(content: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Behaviour]:
    """A server that gives this content under every path."""
    behaviour = Behaviour(content)
    handler = type("Handler", (Handler,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        if tls is not None:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        behaviour.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{http.server_port}/file.pt"
        yield behaviour
        http.shutdown()
        thread.join()
