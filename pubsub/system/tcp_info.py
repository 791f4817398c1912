"""Asks the kernel about a connection: how much the other side has taken, and whether bytes wait to be read."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import NamedTuple

if sys.platform == "linux":
    import fcntl
    import termios

# struct tcp_info of Linux (include/uapi/linux/tcp.h); the kernel only ever adds fields at its end.
_TCP_INFO_SIZE = 148
_UNACKED_PACKETS = struct.Struct("@24xI")
_BYTES_ACKED = struct.Struct("@120xQ")
_BYTES_BOTH_WAYS = struct.Struct("@120xQQ")
_BYTES_NOT_SENT = struct.Struct("@144xI")
_INT = struct.Struct("@i")


class Uptake(NamedTuple):
    """``taken``: a figure that grows whenever the other side takes data, and never when it is sent some.

    ``behind``: it has not taken all. ``at``: when it was last seen to take some.
    """

    taken: int
    behind: bool
    at: float = 0.0


def uptake(transport: asyncio.Transport) -> Uptake:
    """Tell how far the client is: its machine, or on a Unix socket itself. Elsewhere the transport's buffer has to do.

    That buffer alone would wrong a slow client on Linux: the kernel asks for more only when a third of its own, up
    to 4 MiB, is free again, which takes minutes on a slow line; of a Unix socket, three quarters of 208 KiB.
    """
    buffered = unsent_bytes(transport)
    if sys.platform == "linux" and (tcp_info := _tcp_info(transport)):
        (acked,) = _BYTES_ACKED.unpack_from(tcp_info)
        (unacked,) = _UNACKED_PACKETS.unpack_from(tcp_info)
        (unsent,) = _BYTES_NOT_SENT.unpack_from(tcp_info)
        return Uptake(acked, bool(unacked or unsent or buffered))
    if sys.platform == "linux" and (unread := _unread_of_unix(transport)):
        return Uptake(-buffered - unread, behind=True)
    return Uptake(-buffered, bool(buffered))


class Traffic(NamedTuple):
    """Bytes on the wire, with those of the handshake and of TLS: received, and taken by the other side.

    None where the kernel does not say.
    """

    bytes_in: int | None
    bytes_out: int | None


def traffic(transport: asyncio.Transport) -> Traffic:
    """Return the counts of the kernel, which it keeps anyway: the server counts nothing for a message."""
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
    """Return True if bytes were received that nobody has read. The socket must not block."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:  # nothing has come, or the connection is broken, or closed
        return False


def _socket(transport: asyncio.Transport) -> socket.socket | None:
    """Return None for TLS, where the connection below is gone and connection_lost was not called yet."""
    try:
        sock: socket.socket | None = transport.get_extra_info("socket")
    except AttributeError:  # asyncio's TLS transport, when aiohttp closed it twice
        return None
    return sock


def _unread_of_unix(transport: asyncio.Transport) -> int:
    """Return how much the other end of a Unix socket has not read, with what the kernel needs to keep it; else 0.

    A piece of up to 32 KiB counts until its last byte was read.
    """
    sock = _socket(transport)
    if sock is None or sock.family != socket.AF_UNIX:
        return 0
    try:
        (unread,) = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))  # SIOCOUTQ by its value
    except (OSError, ValueError):  # closed
        return 0
    return int(unread)


def _tcp_info(transport: asyncio.Transport) -> bytes:
    sock = _socket(transport)
    if sock is None:
        return b""
    try:
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except (OSError, ValueError):  # closed, which uvloop tells as an invalid descriptor
        return b""
    return bytes(found) if len(found) == _TCP_INFO_SIZE else b""
