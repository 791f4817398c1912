"""Opens WebSockets over TLS in ten threads and ends them without a close frame: by FIN, by RST or by TLS.

Run it alone: ``python hang_up.py PORT close|reset|unwrap ROUNDS``
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
    """Open a WebSocket that sends nothing after its handshake."""
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


def open_and_hang_up(port: int, way: str, rounds: int) -> None:
    for _ in range(rounds):
        hang_up(open_websocket(port), way)


if __name__ == "__main__":
    arguments = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    threads = [threading.Thread(target=open_and_hang_up, args=arguments) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
