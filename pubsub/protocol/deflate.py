"""permessage-deflate (RFC 7692) of a server: its answer to a client's offers, deflated frames built and read.

Neither side keeps a window from message to message: the answer asks the client for that, and promises it. So a
connection keeps nothing for compression, and one deflated message serves all clients. No I/O.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frame_reader import BegunMessage, Reader, whole_message
from pubsub.protocol.frames import (
    BINARY,
    CLOSE,
    FIN,
    TEXT,
    Fragment,
    ProtocolFault,
    Received,
    text_frame,
)

EXTENSION: Final = "permessage-deflate"
LARGEST_WINDOW: Final = 15  # bits
LEAST_WINDOW: Final = 9  # zlib makes no raw stream with 8, which RFC 7692 allows: such an offer is declined
DEFLATED: Final = 0x40  # RSV1 of the first frame of a deflated message (RFC 7692, 6)
LEVEL: Final = 3  # of zlib; 6 takes up to twice the time for 5 % less (docs/performance.md)
TAIL: Final = b"\x00\x00\xff\xff"  # ends each flush, and is not sent (RFC 7692, 7.2.1)
MAX_OFFERS: Final = 16  # of one handshake; later ones are not read

_WINDOW: Final = re.compile("8|9|1[0-5]")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'\s*({_TOKEN})\s*(?:=\s*(?:({_TOKEN})|"({_TOKEN})")\s*)?')


class Agreement(Struct, frozen=True):
    """The compression of one connection: the server's window in bits, and the header of the handshake's answer."""

    window: int
    answer: str


def agree(offers: str) -> Agreement | None:
    """Accept the first offer that can be met; None if there is none.

    ``offers`` is the field Sec-WebSocket-Extensions. An offer with a parameter that is unknown, wrong or repeated is
    declined (RFC 7692, 7), and so is a text that is no list of extensions.
    """
    for offer in offers.split(",")[:MAX_OFFERS]:
        if (window := _window_of(offer)) is not None:
            answer = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
            return Agreement(
                window, answer if window == LARGEST_WINDOW else f"{answer}; server_max_window_bits={window}"
            )
    return None


def _window_of(offer: str) -> int | None:
    """The window that an offer allows the server; None if it cannot be met."""
    name, *parameters = offer.split(";")
    if name.strip() != EXTENSION:
        return None
    window = LARGEST_WINDOW
    seen: set[str] = set()
    for text in parameters:
        parameter = _PARAMETER.fullmatch(text)
        if parameter is None or parameter[1] in seen:
            return None
        seen.add(parameter[1])
        match parameter[1], parameter[2] or parameter[3]:
            case (("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits"), None):
                pass
            case "client_max_window_bits", str(bits) if _WINDOW.fullmatch(bits):
                pass
            case "server_max_window_bits", str(bits) if _WINDOW.fullmatch(bits) and int(bits) >= LEAST_WINDOW:
                window = int(bits)
            case _:
                return None
    return window


class Deflater:
    """Deflates texts one by one. What it returns depends on no earlier text."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._stream = self._new_stream()

    def _new_stream(self) -> zlib._Compress:
        return zlib.compressobj(LEVEL, zlib.DEFLATED, -self._window)

    def deflate(self, text: bytes) -> bytes:
        """Deflate a text up to a byte boundary, after which the stream refers to nothing before it."""
        try:
            return self._stream.compress(text) + self._stream.flush(zlib.Z_FULL_FLUSH)
        except BaseException:
            self._stream = self._new_stream()  # what is left of this text must not come with the next
            raise


def deflated_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame around a deflated payload without its TAIL. Safari reads no fragments."""
    frame = bytearray(text_frame(payload))
    frame[0] |= DEFLATED
    return bytes(frame)


class DeflateReader(Reader):
    """A Reader for a connection with an Agreement: each message may be deflated."""

    __slots__ = ("_deflated",)

    def __init__(self, max_bytes: int, unmask: Callable[[bytes, bytearray], None]) -> None:
        super().__init__(max_bytes, unmask)
        self._deflated = False  # the message that has begun is

    def _check(self, first: int, size: int) -> None:
        starts_message = first & 0x0F in (TEXT, BINARY)
        super()._check(first & ~DEFLATED if starts_message else first, size)

    def _take(self, first: int, payload: bytearray) -> Received:
        if first & 0x0F >= CLOSE or not (first & DEFLATED or (self._message is not None and self._deflated)):
            return super()._take(first & ~DEFLATED, payload)
        if self._message is None:
            self._message = BegunMessage(first & 0x0F, payload)
            self._deflated = True
        else:
            self._message.payload += payload
        if not first & FIN:
            return Fragment(len(payload))
        message, self._message = self._message, None
        self._deflated = False
        return whole_message(BegunMessage(message.opcode, self._inflate(message.payload)))

    def _inflate(self, payload: bytearray) -> bytearray:
        """Inflate a whole message, and stop at the first byte too many. Raises ProtocolFault."""
        stream = zlib.decompressobj(-LARGEST_WINDOW)
        try:
            inflated = stream.decompress(bytes(payload) + TAIL, self._max_bytes + 1)
        except zlib.error as error:
            raise ProtocolFault(CloseReason.PROTOCOL_ERROR, f"a deflated message is damaged: {error}") from None
        if len(inflated) > self._max_bytes:
            raise ProtocolFault(CloseReason.TOO_BIG, f"a message has more than {self._max_bytes} bytes")
        # A last block is allowed (RFC 7692, 7.2.3.4), but not a second stream behind it.
        if stream.unused_data not in (b"", TAIL, b"\x00" + TAIL):
            raise ProtocolFault(CloseReason.PROTOCOL_ERROR, "a deflated message has bytes after its last block")
        return bytearray(inflated)
