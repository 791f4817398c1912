"""Opens WebSockets over TLS in ten threads and ends them without a word of WebSocket's: by FIN, by RST or by TLS.

Run by itself: ``python hang_up.py PORT close|reset|unwrap ROUNDS``
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading

from certificate import trusting

THREADS = 10
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def open_websocket(port: int) -> ssl.SSLSocket:
    """A WebSocket that says nothing any more."""
    client = trusting().wrap_socket(socket.create_connection(("127.0.0.1", port)))
    client.sendall(HANDSHAKE)
    assert client.recv(4096).startswith(b"HTTP/1.1 101")
    return client


def hang_up(client: ssl.SSLSocket, way: str) -> None:
    if way == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    elif way == "unwrap":
        client.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.unwrap()
    client.close()


def come_and_go(port: int, way: str, rounds: int) -> None:
    for _ in range(rounds):
        hang_up(open_websocket(port), way)


if __name__ == "__main__":
    arguments = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    threads = [threading.Thread(target=come_and_go, args=arguments) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
