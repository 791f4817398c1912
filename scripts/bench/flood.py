"""A hostile client: it sends one bad token after the other, as fast as they are refused.

    python scripts/bench/flood.py WAY PORT

WAY is header (of a handshake), message (the first one) or key (an API key over REST). It ends when its standard input
ends, and then prints the number of refused tokens as JSON.
"""

import base64
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

CONNECTIONS = 8
PATIENCE = 30
"""Seconds for an answer: a server may delay its answer to a client that sent many bad tokens."""
HANDSHAKE = """\
GET /ws HTTP/1.1\r
Host: localhost\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
"""


def bad_token() -> str:
    """Make a token with a valid header and claims, so that the server checks its signature, which is random."""
    head, claims = {"alg": "HS256", "typ": "JWT"}, {"sub": "mallory", "exp": 4_000_000_000, "pubsub": {}}
    parts = [json.dumps(head).encode(), json.dumps(claims).encode(), os.urandom(32)]
    return ".".join(base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in parts)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def ask(connection: socket.socket, request: bytes, expected: bytes) -> None:
    connection.sendall(request)
    answer = connection.recv(65536)
    if expected not in answer.partition(b"\r\n")[0]:
        raise ConnectionError(f"expected {expected!r}, got {answer[:200]!r}")


def by_header(port: int) -> Iterator[None]:
    """Send a token in a handshake; the refusal ends the connection."""
    with connect(port) as connection:
        ask(connection, f"{HANDSHAKE}Authorization: Bearer {bad_token()}\r\n\r\n".encode(), b" 4")
    yield


def by_message(port: int) -> Iterator[None]:
    with connect(port) as connection:
        ask(connection, f"{HANDSHAKE}\r\n".encode(), b" 101 ")
        text = json.dumps({"type": "auth", "token": bad_token()}).encode()
        connection.sendall(bytes((0x81, 0x80 | 126)) + len(text).to_bytes(2, "big") + bytes(4) + text)
        if b"UNAUTHORIZED" not in connection.recv(65536):
            raise ConnectionError("expected UNAUTHORIZED")
    yield


def by_key(port: int) -> Iterator[None]:
    with connect(port) as connection:
        request = f"GET /topics HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {os.urandom(8).hex()}\r\n\r\n".encode()
        while True:
            ask(connection, request, b" 4")
            yield


WAYS: dict[str, Callable[[int], Iterator[None]]] = {"header": by_header, "message": by_message, "key": by_key}


def flood(way: Callable[[int], Iterator[None]], port: int, refused: list[None]) -> None:
    while True:
        with suppress(ConnectionResetError):  # the server closed before it read everything
            for each in way(port):
                refused.append(each)


def main() -> None:
    os.nice(10)  # the load generator, which measures, runs first on the same core
    way, port = WAYS[sys.argv[1]], int(sys.argv[2])
    refused: list[None] = []
    for _ in range(CONNECTIONS):
        threading.Thread(target=flood, args=(way, port, refused), daemon=True).start()
    sys.stdin.read()
    print(json.dumps({"refused": len(refused)}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
