"""WebSocket frames (RFC 6455) as a client builds and reads them. No I/O, and nothing of publish/subscribe.

It reads what the server of this project sends: unmasked whole frames, compressed only where a client has agreed to it.
"""

import zlib
from collections.abc import Set
from typing import Final, NamedTuple

from aiohttp._websocket.helpers import websocket_mask

from pubsub.client.errors import ServerFault
from pubsub.protocol.deflate import DEFLATED, EXTENSION, LARGEST_WINDOW, TAIL
from pubsub.protocol.frames import CLOSE, FIN, FIN_TEXT, PING, PONG

__all__ = ["COMPRESSED_KINDS", "EXTENSION", "FIN_CLOSE", "FIN_DEFLATED", "FIN_PING", "FIN_PONG", "FIN_TEXT", "KINDS",
           "MAX_FRAME_BYTES", "FrameBounds", "client_frame", "inflate", "read_frame",
           "text_in"]  # fmt: skip

FIN_CLOSE: Final = FIN | CLOSE
FIN_PING: Final = FIN | PING
FIN_PONG: Final = FIN | PONG
FIN_DEFLATED: Final = FIN_TEXT | DEFLATED
MAX_FRAME_BYTES: Final = 64 * 2**20
"""A history of 1,000 messages comes in one frame; beyond this the connection ends rather than the memory."""
KINDS: Final[Set[int]] = frozenset({FIN_TEXT, FIN_CLOSE, FIN_PING, FIN_PONG})
COMPRESSED_KINDS: Final[Set[int]] = KINDS | {FIN_DEFLATED}
"""The first bytes of frames, without compression and with it."""
_MASKED: Final = 0x80


class FrameBounds(NamedTuple):
    """A frame within received bytes: its first byte, and the positions where its payload starts and ends."""

    first: int
    start: int
    end: int


def client_frame(first: int, payload: bytes, mask: bytes) -> bytes:
    """Build a frame; ``first`` is FIN and opcode, ``mask`` four bytes that nobody can guess (RFC 6455, 5.3)."""
    size = len(payload)
    masked = bytearray(payload)
    websocket_mask(mask, masked)
    if size < 126:
        return bytes((first, _MASKED | size)) + mask + masked
    if size < 1 << 16:
        return bytes((first, _MASKED | 126)) + size.to_bytes(2, "big") + mask + masked
    return bytes((first, _MASKED | 127)) + size.to_bytes(8, "big") + mask + masked


def read_frame(received: bytes, position: int, kinds: Set[int] = KINDS) -> FrameBounds | None:
    """Find the frame that begins at ``position``; None if it has not come to its end.

    Raises ServerFault, also for a frame whose first byte is not among ``kinds``.
    """
    start = position + 2
    if len(received) < start:
        return None
    first, size = received[position], received[position + 1]
    if first not in kinds or size > 127:
        raise ServerFault(f"the server sent a frame that begins with {received[position:start].hex()}")
    if size > 125:
        start += 2 if size == 126 else 8
        size = int.from_bytes(received[position + 2 : start], "big") if len(received) >= start else 0
        if size > MAX_FRAME_BYTES:
            raise ServerFault(f"the server sent a frame of {size:,} bytes")
    end = start + size
    return FrameBounds(first, start, end) if end <= len(received) else None


def text_in(received: bytes, frame: FrameBounds) -> bytes:
    """Return the text of a frame, inflated if it is compressed. Raises ServerFault."""
    payload = received[frame.start : frame.end]
    return inflate(payload) if frame.first == FIN_DEFLATED else payload


def inflate(payload: bytes) -> bytes:
    """Inflate the payload of a compressed frame, up to MAX_FRAME_BYTES. Raises ServerFault."""
    stream = zlib.decompressobj(-LARGEST_WINDOW)
    try:
        text = stream.decompress(payload + TAIL, MAX_FRAME_BYTES)
    except zlib.error as error:
        raise ServerFault(f"the server sent a damaged compressed message: {error}") from None
    if stream.unconsumed_tail:
        raise ServerFault(f"the server sent a compressed message of more than {MAX_FRAME_BYTES:,} bytes")
    return text
