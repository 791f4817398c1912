"""An HTTP server that follows a script for each connection, in a thread: answers of any kind, faults, a proxy."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any
from urllib.parse import urlsplit

from tests.harness import PATIENCE

PUBLISHED = {"status": "published", "topic": "orders", "seq": 1, "id": "any"}
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Script = Callable[["Connection"], None]


class Connection:
    """A connection of the server under test: ``read`` returns its next request, whole."""

    def __init__(self, sock: socket.socket, requests: list[bytes]) -> None:
        self.socket = sock
        self._requests = requests

    def read(self) -> bytes:
        request = read_message(self.socket)
        self._requests.append(request)
        return request

    @property
    def has_more(self) -> bool:
        """Wait for the next request; False once the client has closed the connection."""
        return bool(self.socket.recv(1, socket.MSG_PEEK))

    def send(self, answer: bytes) -> None:
        self.socket.sendall(answer)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.socket.close()


class ScriptedServer:
    """The scripts run one after the other, each with the next connection; then connections are refused.

    ``requests``: those that the scripts have read.
    """

    def __init__(self, *scripts: Script) -> None:
        self.requests: list[bytes] = []
        self._scripts = scripts
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            for left in range(len(self._scripts), 0, -1):
                sock, _ = self._listening.accept()
                if left == 1:
                    self._listening.close()
                sock.settimeout(PATIENCE)
                with sock:
                    self._scripts[-left](Connection(sock, self.requests))
        except BaseException as failure:
            self._failures.append(failure)
        finally:
            self._listening.close()

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Wait for the end of the scripts, and raise their failure."""
        self._thread.join(PATIENCE)
        for each in self._failures:
            raise each
        assert not self._thread.is_alive(), "a script waits for a connection that does not come"


def read_message(sock: socket.socket) -> bytes:
    """Read a request or a response, with its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = sock.recv(65_536)
        assert more, f"the connection has ended after {received!r}"
        received += more
    size = re.search(rb"\r\nContent-Length: (\d+)\r\n", received)
    whole = received.index(b"\r\n\r\n") + 4 + (int(size[1]) if size else 0)
    while len(received) < whole:
        received += sock.recv(65_536)
    return received


def body_of(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


def response(status: int, body: Any = PUBLISHED, **headers: str) -> bytes:
    """Encode the last response of a connection, unless ``connection="keep-alive"`` is among the ``headers``.

    ``body``: bytes, or something for JSON. A header's name is written as ``retry_after``.
    """
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content_length": str(len(text)), "connection": "close"} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} any\r\n{lines}\r\n".encode() + text


def answers(*responses: bytes) -> Script:
    """Answer a request with each of these, then close."""

    def script(connection: Connection) -> None:
        for each in responses:
            connection.read()
            connection.send(each)

    return script


def resets(connection: Connection) -> None:
    """Read a request, and reset the connection."""
    connection.read()
    connection.reset()


def drips(connection: Connection) -> None:
    """Answer a byte now and then, and never end, as long as the client is there."""
    connection.read()
    with contextlib.suppress(ConnectionError):
        for byte in chain(b"HTTP/1.1 200 OK\r\nX: ", repeat(ord("x"))):
            connection.send(bytes((byte,)))
            threading.Event().wait(0.01)


def passes_on(url: str) -> Script:
    """Pass all requests on to the server at ``url``, and its answers back."""

    def script(connection: Connection) -> None:
        while connection.has_more:
            connection.send(ask(url, connection.read()))

    return script


def loses_answer_of(url: str) -> Script:
    """Pass a request on to the server at ``url``; reset the connection when its answer has come."""

    def script(connection: Connection) -> None:
        ask(url, connection.read())
        connection.reset()

    return script


def ask(url: str, request: bytes) -> bytes:
    """Send a request to the server at ``url``; return its answer."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), PATIENCE) as sock:
        sock.sendall(request)
        return read_message(sock)
