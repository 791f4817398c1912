"""Events of the server, decoded once for all subscribers. No I/O.

All subscribers of a topic get the same bytes, in pieces of any size. The pieces that were decoded for one are cached,
and only compared for the others: 0.1 µs a delivery instead of 3. Otherwise the client would measure itself.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from pubsub.bench.event_stream import read_block
from pubsub.client import ServerFault
from pubsub.client.frames import COMPRESSED_KINDS, FIN_DEFLATED, FIN_TEXT, FrameBounds, read_frame, text_in
from pubsub.client.replies import Error, Event, Info, Reply, decode

CACHE_BYTES: Final = 16 * 2**20  # a subscriber that lags by more decodes its events itself


class Unit(NamedTuple):
    """A decoded event within received bytes, and the position behind it."""

    event: Event
    end: int
    is_compressed: bool = False


ReadEvent = Callable[[bytes, int], Unit | None]
"""A function that decodes the event at a position; None if there is something else, or a part only."""


def read_framed_event(received: bytes, position: int) -> Unit | None:
    """Decode the event in the text frame at ``position``."""
    frame = read_frame(received, position)
    if frame is None or frame.first != FIN_TEXT:
        return None
    event = read_reply(received, frame)
    return Unit(event, frame.end) if isinstance(event, Event) else None


def read_compressed_event(received: bytes, position: int) -> Unit | None:
    """Decode the event in the text frame at ``position``, which may be compressed."""
    frame = read_frame(received, position, COMPRESSED_KINDS)
    if frame is None or frame.first not in (FIN_TEXT, FIN_DEFLATED):
        return None
    event = read_reply(received, frame)
    return Unit(event, frame.end, frame.first == FIN_DEFLATED) if isinstance(event, Event) else None


def read_streamed_event(received: bytes, position: int) -> Unit | None:
    """Decode the event in the block of a stream at ``position``."""
    block = read_block(received, position)
    if block is None or not block.data or not block.is_event:
        return None
    event = decode(block.data.decode(errors="replace"))
    return Unit(event, block.end) if isinstance(event, Event) else None


def read_reply(received: bytes, frame: FrameBounds) -> Reply:
    """Decode the message in a text frame."""
    return decode(text_in(received, frame).decode(errors="replace"))


class _Payload(msgspec.Struct):
    n: str
    sent: str


_payload: msgspec.json.Decoder[_Payload] = msgspec.json.Decoder(_Payload)


def sent_at(event: Event) -> int:
    """Return the send time (ns) in an event's payload; raises ServerFault unless its number is that of the event."""
    try:
        payload = _payload.decode(event.message.payload)
        number, sent = int(payload.n, 16), int(payload.sent, 16)
    except (msgspec.DecodeError, ValueError):
        number, sent = -1, 0
    if number != event.seq:
        raise ServerFault(f"event #{event.seq} is not what this run published with that number")
    return sent


class Batch(NamedTuple):
    """Consecutive messages with the same send time."""

    sent: int  # nanoseconds
    messages: int


class Piece(NamedTuple):
    """Consecutive events, in the bytes that the server sent."""

    frames: bytes
    messages: int
    batches: list[Batch]
    compressed: int = 0  # of the messages


def read_piece(received: bytes, position: int, expected: int, read_event: ReadEvent) -> Piece | None:
    """Decode consecutive events at ``position``, the first with number ``expected``; None if there is none."""
    end, count, compressed, batches = position, 0, 0, [Batch(0, 0)]
    while (unit := read_event(received, end)) is not None and unit.event.seq == expected + count:
        sent = sent_at(unit.event)
        if sent == batches[-1].sent:
            batches[-1] = Batch(sent, batches[-1].messages + 1)
        else:
            batches.append(Batch(sent, 1))
        end, count, compressed = unit.end, count + 1, compressed + unit.is_compressed
    return Piece(received[position:end], count, batches[1:], compressed) if count else None


class PieceCache:
    """The newest pieces, by the number of their first event."""

    def __init__(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._bytes = 0
        self.get = self._pieces.get

    def add(self, first: int, piece: Piece) -> None:
        """Keep a piece. A shorter one replaces a longer one: it fits wherever that did, and more often."""
        replaced = self._pieces.pop(first, None)
        self._pieces[first] = piece
        self._bytes += len(piece.frames) - (len(replaced.frames) if replaced else 0)
        while self._bytes > CACHE_BYTES and len(self._pieces) > 1:
            self._bytes -= len(self._pieces.pop(next(iter(self._pieces))).frames)


def refuse_failure(reply: Reply) -> None:
    """Raise ServerFault for any message but a heartbeat."""
    match reply:
        case Info(msg="ping"):
            pass
        case Error(error=problem):
            raise ServerFault(f"the server answered {problem.code}: {problem.message}")
        case Info(msg=message):
            raise ServerFault(f"the server sent the info {message!r}")
        case _:
            raise ServerFault("the server sent a message that no request asked for")
