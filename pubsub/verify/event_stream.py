"""A stream of Server-Sent Events as it comes through a proxy, block by block. It must never reconnect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pubsub.client.errors import ServerFault
from pubsub.client.replies import Reply, decode
from pubsub.verify.deployment import Deployment, advice_for, describe
from pubsub.verify.http import Answer, Request, Response, read_head
from pubsub.verify.outcomes import CheckFailed, CheckSkipped

MAX_BLOCK_BYTES: Final = 2**20
_END: Final = b"\n\n"


@dataclass(frozen=True, slots=True)
class Block:
    """A block; ``message`` is None for a heartbeat and for ``retry:`` alone."""

    id: str
    message: Reply | None


class EventStream:
    """An open stream."""

    def __init__(self, response: Response) -> None:
        self._pieces = response.pieces()
        self._received = b""

    async def next_block(self) -> Block:
        """Return the next block. Raises ServerFault at the end."""
        while _END not in self._received:
            piece = await anext(self._pieces, None)
            if piece is None:
                raise ServerFault("the stream has ended")
            self._received += piece
            if len(self._received) > MAX_BLOCK_BYTES:
                raise ServerFault(f"expected a block of a stream, got {MAX_BLOCK_BYTES:,} bytes without its end")
        text, _, self._received = self._received.partition(_END)
        return _read_block(text)

    async def next_message(self) -> Block:
        """Return the next block that is more than a heartbeat."""
        while (block := await self.next_block()).message is None:
            pass
        return block


def _read_block(text: bytes) -> Block:
    fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if b": " in line)
    read = fields.get(b"data")
    return Block(fields.get(b"id", b"").decode(errors="replace"), None if read is None else decode(read))


@asynccontextmanager
async def open_stream(deployment: Deployment, topic: str, fields: Mapping[str, str]) -> AsyncIterator[EventStream]:
    """Open the stream of a topic. Raises CheckFailed for any answer but a stream; ServerFault, OSError."""
    all_fields = {"Accept": "text/event-stream"} | deployment.credentials.headers | dict(fields)
    request = Request("GET", f"/topics/{topic}/events", all_fields)
    async with deployment.address.connect() as connection:
        await connection.write(request.encode(deployment.address))
        response = await read_head(connection)
        kind = response.fields.get("Content-Type", "")
        if response.status in (401, 403):
            raise CheckSkipped(f"these credentials may not open a stream: {await _describe(response)}")
        if response.status != 200:
            raise await _failure(response)
        if not kind.startswith("text/event-stream"):
            raise CheckFailed(f"expected a stream of events, got the Content-Type {kind!r}")
        yield EventStream(response)


async def _describe(response: Response) -> str:
    return describe(await _read(response))


async def _failure(response: Response) -> CheckFailed:
    answer = await _read(response)
    return CheckFailed(f"expected a stream of events, got {describe(answer)}", advice_for(answer))


async def _read(response: Response) -> Answer:
    return Answer(response.status, response.fields, b"".join([piece async for piece in response.pieces()]))
