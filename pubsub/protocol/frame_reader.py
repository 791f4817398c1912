"""The reader of a client's WebSocket frames (RFC 6455). No I/O, and nothing of publish/subscribe.

The reader is the project's own: it must distinguish masked from unmasked frames, and whole from unfinished messages,
and must keep nothing for an idle connection. aiohttp's reader does neither, accepts unmasked frames, and keeps 1.5 KiB
for each connection (this one: 0.1) at the same speed (0.6 µs for a frame of 300 bytes).
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Callable
from typing import cast

from pubsub.protocol.errors import CloseReason
from pubsub.protocol.frames import (
    BINARY,
    CLOSE,
    CLOSE_CODES,
    CONTINUATION,
    FIN,
    FIN_TEXT,
    LONG_TEXT,
    MAX_CONTROL_BYTES,
    MAX_HEADER_BYTES,
    PING,
    PONG,
    RESERVED,
    TEXT,
    Binary,
    CloseFrame,
    Fragment,
    InvalidClose,
    LongText,
    PingFrame,
    PongFrame,
    ProtocolFault,
    Received,
    decode_text,
    invalid_text,
)


class BegunMessage:
    """A fragmented message that has begun."""

    __slots__ = ("opcode", "payload", "valid")

    def __init__(self, opcode: int, payload: bytearray) -> None:
        self.opcode = opcode
        self.payload = payload
        self.valid = 0  # how many of its bytes are known to be UTF-8

    def check_text(self) -> None:
        """Check the new bytes, each once; those of a character that is split between fragments up to four times."""
        try:
            self.valid += utf_8_decode(self.payload[self.valid :], "strict", False)[1]
        except UnicodeDecodeError as error:
            raise invalid_text(self.valid + error.start) from None


class Reader:
    """Turn a client's bytes into messages.

    ``feed`` takes received bytes; ``read`` returns the message that the next whole frame completes (text as ``str`` or
    LongText), or None if more bytes are needed. A caller may stop after any frame and continue later. ``read`` raises
    ProtocolFault; after that, or after a close frame, the reader must not be used. It keeps at most one message of
    ``max_bytes``, and the bytes that came with its end.

    Text that is not UTF-8 is refused with the fragment that has the first wrong byte.

    ``unmask`` is ``(mask: bytes, payload: bytearray) -> None`` and changes ``payload`` in place.
    """

    __slots__ = ("_bytes", "_ends", "_gathered", "_max_bytes", "_message", "_position", "_size_needed", "_unmask")

    def __init__(self, max_bytes: int, unmask: Callable[[bytes, bytearray], None]) -> None:
        self._max_bytes = max_bytes
        self._unmask = unmask
        self._bytes = b""
        self._position = 0
        self._gathered: bytearray | None = None  # a long frame, while its bytes come in
        self._size_needed = 0
        self._message: BegunMessage | None = None
        self._ends: list[int] | None = None  # of the texts that read_texts returned, until end_texts

    @property
    def unfinished(self) -> bool:
        """True if a message or a frame is unfinished, and if whole frames wait to be read."""
        return self._position < len(self._bytes) or self._gathered is not None or self._message is not None

    @property
    def within_message(self) -> bool:
        """True if some fragments of a message have been read, and not the last one."""
        return self._message is not None

    def feed(self, received: bytes) -> None:
        """Add bytes in the order in which they came."""
        if self._gathered is not None:
            self._gather(received)
        elif self._position < len(self._bytes):
            self._bytes = self._bytes[self._position :] + received
            self._position = 0
        else:
            self._bytes = received
            self._position = 0

    def read_texts(self, most: int) -> list[str]:
        """Read the next whole text messages, at most ``most``, up to the first frame that is anything else.

        Then :meth:`end_texts` must be called. One call for many frames saves 0.2 µs of 0.6 for each.
        """
        texts: list[str] = []
        ends: list[int] = []
        received, position, unmask = self._bytes, self._position, self._unmask
        last = len(received) - 6 if self._message is None else -1  # the last byte where a frame can begin
        while position <= last and len(texts) < most and received[position] == FIN_TEXT:
            size = received[position + 1] - 128
            start = position + 6
            if size == 126:
                size = received[position + 2] << 8 | received[position + 3]
                start = position + 8
            end = start + size
            if not 0 <= size <= self._max_bytes or end > len(received) or received[position + 1] == 255:
                break
            payload = bytearray(received[start:end])
            unmask(received[start - 4 : start], payload)
            try:
                texts.append(payload.decode())
            except UnicodeDecodeError:
                break
            ends.append(position := end)
        self._ends = ends
        return texts

    def end_texts(self, served: int) -> bool:
        """End the reading of texts, of which so many were served. Returns True if no byte is left to read.

        The others are read again.
        """
        assert self._ends is not None, "texts were read"
        self._position = position = self._ends[served - 1]
        self._ends = None
        if position < len(self._bytes):
            return False
        self._bytes = b""
        self._position = 0
        return True

    def read(self) -> Received | None:
        """Read the next frame: the message that it is or completes; None if there is no whole frame.

        This function is long because every frame passes it: each further call costs 0.06 µs of 0.6.
        """
        received = self._bytes
        position = self._position
        length = len(received)
        while length - position >= 2:
            first = received[position]
            size = received[position + 1] - 128
            start = position + 6
            if size == 126:
                start = position + 8
                if length < position + 4:
                    break
                size = received[position + 2] << 8 | received[position + 3]
            elif size == 127:
                start = position + 14
                if length < position + 10:
                    break
                size = int.from_bytes(received[position + 2 : position + 10], "big")
            elif size < 0:
                raise ProtocolFault(CloseReason.PROTOCOL_ERROR, "a frame is not masked")  # RFC 6455, 5.1
            if first != FIN_TEXT or size > self._max_bytes or self._message is not None:
                self._check(first, size)
            end = start + size
            if end > length:
                self._wait_for(end - position)
                break
            if size > LONG_TEXT:
                return self._take(first, self._cut_long(start, end))
            payload = bytearray(received[start:end])
            self._unmask(received[start - 4 : start], payload)
            self._position = position = end
            if first == FIN_TEXT:
                try:
                    return payload.decode()
                except UnicodeDecodeError as error:
                    raise invalid_text(error.start) from None
            return self._take(first, payload)
        self._bytes = self._bytes[self._position :]  # an idle connection keeps no bytes, not even read ones
        self._position = 0
        return None

    def _cut_long(self, start: int, end: int) -> bytearray:
        """The payload of a long frame, copied once: new memory costs more than reading it."""
        received = memoryview(self._bytes)
        payload = bytearray(received[start:end])
        self._unmask(bytes(received[start - 4 : start]), payload)
        self._bytes = bytes(received[end:])
        self._position = 0
        return payload

    def _check(self, first: int, size: int) -> None:
        opcode = first & 0x0F
        if first & RESERVED or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise self._fault(first, size, f"a frame begins with {first:#04x}")
        if opcode >= CLOSE:
            if not first & FIN or size > MAX_CONTROL_BYTES:
                raise self._fault(first, size, "a control frame is fragmented or too long")
            return
        if (opcode == CONTINUATION) != (self._message is not None):
            raise ProtocolFault(CloseReason.PROTOCOL_ERROR, "fragments are out of order")
        begun = len(self._message.payload) if self._message is not None else 0
        if begun + size > self._max_bytes:
            raise ProtocolFault(CloseReason.TOO_BIG, f"a message has more than {self._max_bytes} bytes")

    def _fault(self, first: int, size: int, detail: str) -> ProtocolFault:
        header = 6 if size < 126 else 8 if size < 1 << 16 else MAX_HEADER_BYTES
        is_whole = len(self._bytes) - self._position >= header + size
        is_close = first & (FIN | 0x0F) == FIN | CLOSE
        return (InvalidClose if is_close and is_whole else ProtocolFault)(CloseReason.PROTOCOL_ERROR, detail)

    def _wait_for(self, size: int) -> None:
        """Gather a frame of ``size`` bytes in one buffer, so that it is not copied for each of its pieces."""
        self._gathered = bytearray(self._bytes[self._position :])
        self._size_needed = size
        self._bytes = b""
        self._position = 0

    def _gather(self, received: bytes) -> None:
        assert self._gathered is not None, "nothing is being gathered"
        self._gathered += received
        if len(self._gathered) >= self._size_needed:
            long = self._size_needed > LONG_TEXT + MAX_HEADER_BYTES
            self._bytes = cast("bytes", self._gathered) if long else bytes(self._gathered)  # _cut_long reads either
            self._gathered = None

    def _take(self, first: int, payload: bytearray) -> Received:
        """Interpret a frame that is not a whole text message."""
        match first & 0x0F:
            case 0x8:
                return _decode_close(payload)
            case 0x9:
                return PingFrame(bytes(payload))
            case 0xA:
                return PongFrame(bytes(payload))
            case 0x1 | 0x2 as opcode:
                message = BegunMessage(opcode, payload)
            case _:
                assert self._message is not None, "_check lets no continuation through without a beginning"
                message = self._message
                message.payload += payload
        if first & FIN:
            self._message = None
            return whole_message(message)
        self._message = message
        if message.opcode == TEXT:
            message.check_text()
        return Fragment(len(payload))


def whole_message(message: BegunMessage) -> str | LongText | Binary:
    """The message that has come whole. Raises ProtocolFault."""
    if message.opcode == BINARY:
        return Binary(message.payload)
    return LongText(message.payload) if len(message.payload) > LONG_TEXT else decode_text(message.payload)


def _decode_close(payload: bytearray) -> CloseFrame:
    if not payload:
        return CloseFrame(None, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in CLOSE_CODES or 3000 <= code <= 4999):
        raise InvalidClose(CloseReason.PROTOCOL_ERROR, f"a close frame with {bytes(payload[:2])!r} for a code")
    try:
        return CloseFrame(code, payload[2:].decode())
    except UnicodeDecodeError as error:
        raise InvalidClose(
            CloseReason.INVALID_TEXT, f"the reason of a close frame is not UTF-8 at byte {error.start}"
        ) from None
