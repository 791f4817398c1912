"""What the server sends, read from bytes. No I/O.

All subscribers of a topic get the same bytes, in whatever pieces. What was decoded for one is kept on a tape and only
compared for the others: 0.1 µs a delivery in place of 3. Decoding all of them, the client would measure itself.
"""

from typing import Final, NamedTuple

import msgspec

from pubsub.client.frames import FIN_TEXT, FrameBounds, ServerFault, read_frame
from pubsub.client.replies import Event, Reply, decode

TAPE_BYTES: Final = 16 * 2**20  # a subscriber that lags by more decodes by itself


def read_reply(received: bytes, frame: FrameBounds) -> Reply:
    """The message in a text frame."""
    return decode(received[frame.start : frame.end].decode(errors="replace"))


class _Payload(msgspec.Struct):
    n: str
    sent: str


_payload: msgspec.json.Decoder[_Payload] = msgspec.json.Decoder(_Payload)


def sent_at(event: Event) -> int:
    """The send time (nanoseconds) in an event's payload, which must be the one that was published with its number."""
    try:
        payload = _payload.decode(event.message.payload)
        number, sent = int(payload.n, 16), int(payload.sent, 16)
    except (msgspec.DecodeError, ValueError):
        number, sent = -1, 0
    if number != event.seq:
        raise ServerFault(f"event #{event.seq} is not what this run published with that number")
    return sent


class Batch(NamedTuple):
    """Messages that follow each other and have the same send time."""

    sent: int  # nanoseconds
    messages: int


class Piece(NamedTuple):
    """Frames of events that follow each other, as the server sent them."""

    frames: bytes
    messages: int
    batches: list[Batch]


def read_piece(received: bytes, position: int, expected: int) -> Piece | None:
    """The events from ``position`` on, as far as they follow each other from number ``expected``; None without any."""
    end, count, batches = position, 0, [Batch(0, 0)]
    while (frame := read_frame(received, end)) is not None and frame.first == FIN_TEXT:
        event = read_reply(received, frame)
        if not isinstance(event, Event) or event.seq != expected + count:
            break
        sent = sent_at(event)
        if sent == batches[-1].sent:
            batches[-1] = Batch(sent, batches[-1].messages + 1)
        else:
            batches.append(Batch(sent, 1))
        end, count = frame.end, count + 1
    return Piece(received[position:end], count, batches[1:]) if count else None


class Tape:
    """The newest pieces by the number of their first event."""

    def __init__(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._bytes = 0
        self.get = self._pieces.get

    def add(self, first: int, piece: Piece) -> None:
        """A shorter piece takes the place of a longer one: it fits wherever that did, and more often."""
        replaced = self._pieces.pop(first, None)
        self._pieces[first] = piece
        self._bytes += len(piece.frames) - (len(replaced.frames) if replaced else 0)
        while self._bytes > TAPE_BYTES and len(self._pieces) > 1:
            self._bytes -= len(self._pieces.pop(next(iter(self._pieces))).frames)
