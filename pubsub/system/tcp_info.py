"""What the kernel knows of a connection that the event loop does not: what was taken, and what waits to be read."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import NamedTuple

# struct tcp_info of Linux (include/uapi/linux/tcp.h); the kernel only ever adds fields at its end.
_TCP_INFO_SIZE = 148
_UNACKED_PACKETS = struct.Struct("@24xI")
_BYTES_ACKED = struct.Struct("@120xQ")
_BYTES_BOTH_WAYS = struct.Struct("@120xQQ")
_BYTES_NOT_SENT = struct.Struct("@144xI")


class Uptake(NamedTuple):
    """``taken``: a figure that changes whenever the other side takes data. ``behind``: it has not taken all.

    ``at``: when it was last seen to take some.
    """

    taken: int
    behind: bool
    at: float = 0.0


def uptake(transport: asyncio.Transport) -> Uptake:
    """How far the client's machine is. Where the kernel does not say, the transport's own buffer has to do.

    That buffer alone would wrong a slow client on Linux: the kernel asks for more only when a third of its own, up
    to 4 MiB, is free again, which takes minutes on a slow line.
    """
    buffered = unsent_bytes(transport)
    if sys.platform == "linux" and (tcp_info := _tcp_info(transport)):
        (acked,) = _BYTES_ACKED.unpack_from(tcp_info)
        (unacked,) = _UNACKED_PACKETS.unpack_from(tcp_info)
        (unsent,) = _BYTES_NOT_SENT.unpack_from(tcp_info)
        return Uptake(acked, bool(unacked or unsent or buffered))
    return Uptake(-buffered, bool(buffered))


class Traffic(NamedTuple):
    """Bytes on the wire, the handshake's and TLS's included: what came in, and what the other side has taken.

    None where the kernel does not say.
    """

    bytes_in: int | None
    bytes_out: int | None


def traffic(transport: asyncio.Transport) -> Traffic:
    """Asked of the kernel, which counts anyway: nothing is counted for a message."""
    if sys.platform == "linux" and (tcp_info := _tcp_info(transport)):
        acked, received = _BYTES_BOTH_WAYS.unpack_from(tcp_info)
        return Traffic(received, acked)
    return Traffic(None, None)


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has not taken from the transport; they may go out after it was closed."""
    try:
        return transport.get_write_buffer_size()
    except AttributeError:  # asyncio's TLS transport, when aiohttp closed it twice
        return 0


def has_unread(sock: socket.socket) -> bool:
    """True if bytes have come that nobody has read. The socket must not block."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:  # nothing has come, or the connection is broken, or closed
        return False


def _tcp_info(transport: asyncio.Transport) -> bytes:
    try:
        sock = transport.get_extra_info("socket")
    except AttributeError:  # asyncio's TLS transport, when aiohttp closed it twice
        return b""
    if sock is None:  # TLS: the connection below is gone, and connection_lost not called yet
        return b""
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:
        return b""
    return bytes(found) if len(found) == _TCP_INFO_SIZE else b""
