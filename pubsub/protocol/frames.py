"""WebSocket frames (RFC 6455) of a server: built from payloads, and what a client's frames mean. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pubsub.protocol.errors import CloseReason

FIN: Final = 0x80
RESERVED: Final = 0x70
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
FIN_TEXT: Final = FIN | TEXT

LONG_TEXT: Final = 64 * 1024  # bytes; a longer text takes 0.1 to 20 ms to decode and serve
MAX_HEADER_BYTES: Final = 14
MAX_CONTROL_BYTES: Final = 125  # RFC 6455, 5.5
# Close codes below 3000 that a frame may have (RFC 6455, 7.4.1; 1012 to 1014 by the IANA registry).
CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame around ``payload``."""
    size = len(payload)
    return (_SHORT_HEADERS[size] if size < len(_SHORT_HEADERS) else _text_header(size)) + payload


def text_frames(payloads: Sequence[bytes]) -> bytes:
    """One such frame for each payload, joined."""
    try:
        return b"".join([_SHORT_HEADERS[len(payload)] + payload for payload in payloads])
    except IndexError:  # one of them is long
        return b"".join([_text_header(len(payload)) + payload for payload in payloads])


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """A ping, pong or close frame; ``payload`` has at most 125 bytes."""
    assert len(payload) <= MAX_CONTROL_BYTES, "the payload of a control frame is too long"
    return bytes((FIN | opcode, len(payload))) + payload


def close_frame(reason: CloseReason) -> bytes:
    """The close frame with that code and reason."""
    return control_frame(CLOSE, reason.code.to_bytes(2, "big") + reason.reason.encode())


def _text_header(size: int) -> bytes:
    if size < 126:
        return bytes((FIN_TEXT, size))
    if size < 1 << 16:
        return bytes((FIN_TEXT, 126)) + size.to_bytes(2, "big")
    return bytes((FIN_TEXT, 127)) + size.to_bytes(8, "big")


_SHORT_HEADERS: Final = tuple(map(_text_header, range(1024)))  # 0.3 µs less for each frame of the usual sizes


class ProtocolFault(Exception):
    """The client broke RFC 6455 or a limit: the connection ends with ``close_reason``."""

    def __init__(self, close_reason: CloseReason, detail: str) -> None:
        super().__init__(detail)
        self.close_reason = close_reason


class InvalidClose(ProtocolFault):
    """The client's close frame breaks RFC 6455. It is complete: the client sends nothing after it."""


class Binary(NamedTuple):
    """A binary message."""

    payload: bytearray


class LongText(NamedTuple):
    """A text message of more than LONG_TEXT bytes, which is not known to be UTF-8 yet."""

    payload: bytearray

    def decode(self) -> str:
        return decode_text(self.payload)


class Fragment(NamedTuple):
    """A part of an unfinished message: a whole frame, but nothing to serve yet."""

    size: int


class PingFrame(NamedTuple):
    payload: bytes


class PongFrame(NamedTuple):
    payload: bytes


class CloseFrame(NamedTuple):
    """The client's close frame; ``code`` is None if it has none."""

    code: int | None
    reason: str


Received = str | LongText | Binary | Fragment | PingFrame | PongFrame | CloseFrame


def decode_text(payload: bytearray) -> str:
    """Raises ProtocolFault."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise invalid_text(error.start) from None


def invalid_text(position: int) -> ProtocolFault:
    """The fault of a text whose byte at ``position`` is wrong."""
    return ProtocolFault(CloseReason.INVALID_TEXT, f"text is not UTF-8 at byte {position}")
