"""A light client of Server-Sent Events, and the blocks of a stream. It must never know publish/subscribe."""

import re
from typing import Final, NamedTuple

from pubsub.bench.wire import Wire
from pubsub.client import ServerFault
from pubsub.client.frames import MAX_FRAME_BYTES

_END: Final = b"\n\n"
_DATA: Final = b"data: "


class Block(NamedTuple):
    """A block within received bytes: its data, and the position where the next block starts.

    ``data`` is empty for a comment or a ``retry:`` alone; ``is_event`` is false for an ``event: info``.
    """

    data: bytes
    is_event: bool
    end: int


def read_block(received: bytes, position: int) -> Block | None:
    """Find the block that begins at ``position``; None if it has not come to its end. Raises ServerFault."""
    end = received.find(_END, position)
    if end < 0:
        if len(received) - position > MAX_FRAME_BYTES:
            raise ServerFault(f"the server sent a block of more than {MAX_FRAME_BYTES:,} bytes")
        return None
    lines = received[position:end].split(b"\n")
    data = b"\n".join(line.removeprefix(_DATA) for line in lines if line.startswith(_DATA))
    return Block(data, not any(line.startswith(b"event:") for line in lines), end + len(_END))


class EventStream(Wire):
    """One client. A subclass defines :meth:`take` for blocks with data and :meth:`fail` for the end of the stream."""

    def take(self, block: Block) -> None:
        raise NotImplementedError

    def take_one(self, received: bytes, position: int) -> int:
        block = read_block(received, position)
        if block is None:
            return position
        if block.data:
            self.take(block)
        return block.end

    def head_fields(self) -> str:
        return "Accept: text/event-stream\r\n"

    def check_head(self, head: bytes) -> None:
        if not re.search(rb"\r\ncontent-type: *text/event-stream", head, re.IGNORECASE):
            raise ServerFault("the server's answer is not a stream of Server-Sent Events")
        if re.search(rb"\r\ntransfer-encoding:", head, re.IGNORECASE):
            raise ServerFault("the stream has a transfer coding, as from a proxy: measure the server itself")
