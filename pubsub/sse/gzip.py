"""Streams of Server-Sent Events in gzip (RFC 1952): what a lane delivers is deflated once for all of its streams.

A stream is put together of blocks (RFC 1951) that refer to nothing before them. So no stream has a compressor or a
window, and one block serves all. A stream ends with its connection, before the checksum at its end. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pubsub.core.lane import Write
from pubsub.protocol.deflate import LARGEST_WINDOW, Deflater

HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # without a time, and of no operating system
MOST_STORED: Final = 0xFFFF  # bytes of a stored block


class Gzip:
    """See the module. All streams of a server share it. ``least``: shorter pieces are not deflated."""

    def __init__(self, least: int) -> None:
        self._deflater = Deflater(LARGEST_WINDOW)
        self._least = least
        self._plain = b""
        self._block = b""
        self._pieces: Sequence[bytes] = ()
        self._blocks: list[bytes] = []

    def writing(self, write: Write) -> Write:
        """A ``write`` of blocks. Bytes that several streams write one after the other are deflated once."""

        def write_block(encoded: bytes) -> None:
            if self._plain is not encoded:
                self._block = self._make_block(encoded)
                self._plain = encoded
            write(self._block)

        return write_block

    def join(self, mark: bytes, pieces: Sequence[bytes]) -> bytes:
        """Join pieces that several streams have, with the stored ``mark`` between them."""
        if self._pieces is not pieces:
            self._blocks = [self._make_block(piece) for piece in pieces]
            self._pieces = pieces
        return mark.join(self._blocks)

    def _make_block(self, plain: bytes) -> bytes:
        return stored(plain) if len(plain) < self._least else self._deflater.deflate(plain)


def stored(plain: bytes) -> bytes:
    """Blocks that contain bytes as they are (RFC 1951, 3.2.4).

    An empty block ends them, as it ends a flush of zlib. The inflater of Go gives out nothing before it, and Caddy
    inflates streams for clients that do not accept gzip.
    """
    starts = range(0, len(plain), MOST_STORED)
    return b"".join([*(_stored_block(plain[start : start + MOST_STORED]) for start in starts), _stored_block(b"")])


def _stored_block(plain: bytes) -> bytes:
    size = len(plain).to_bytes(2, "little")
    return b"\x00" + size + bytes(byte ^ 0xFF for byte in size) + plain
