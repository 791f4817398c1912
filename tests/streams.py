"""A client of Server-Sent Events for tests: the head, then the blocks of a stream, read as the standard says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

from tests.described import check_streamed
from tests.harness import PATIENCE, Json, RawClient


@dataclass
class Block:
    """The fields of one block. ``data``: the JSON."""

    event: str = "message"
    id: str | None = None
    retry: int | None = None
    data: Any = None
    comments: list[str] = field(default_factory=list)


def read_block(text: str) -> Block:
    """Read a block without its empty line."""
    block, data = Block(), list[str]()
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                block.comments.append(value)
            case "id":
                block.id = value
            case "event":
                block.event = value
            case "retry":
                block.retry = int(value)
            case "data":
                data.append(value)
            case _:
                raise AssertionError(f"no field of an event stream: {line!r}")
    assert len(data) < 2, "the JSON stands on one line"
    block.data = json.loads(data[0]) if data else None
    return block


def read_blocks(text: bytes) -> list[Block]:
    """Read whole blocks."""
    assert b"\r" not in text, "lines end in LF alone"
    assert text.endswith(b"\n\n") or not text, f"a block is not whole: {text[-80:]!r}"
    return [read_block(block) for block in text.decode().split("\n\n")[:-1]]


class Stream:
    """A stream that is read block by block. ``last_id`` is what an EventSource would send when it connects again."""

    def __init__(self, client: RawClient, head: str) -> None:
        self.client = client
        self.status = int(head.split()[1])
        self.headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.last_id = ""
        self.retry = 0

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        *,
        last_id: str = "",
        headers: dict[str, str] | None = None,
        receive_buffer: int | None = None,
        method: str = "GET",
    ) -> Self:
        client = await RawClient.connect_tcp(port, receive_buffer=receive_buffer)
        fields = {"Host": "localhost"} | ({"Last-Event-ID": last_id} if last_id else {}) | (headers or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await client.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        head = await client.read_until(b"\r\n\r\n")
        return cls(client, head.decode())

    async def blocks(self) -> AsyncIterator[Block]:
        """Yield each block up to the end of the stream."""
        while (text := await self.client.read_upto(b"\n\n")) is not None:
            block = read_block(text[:-2].decode())
            if block.data is not None:
                check_streamed(block.data)
            self.last_id = block.id if block.id is not None else self.last_id
            self.retry = block.retry if block.retry is not None else self.retry
            yield block

    async def next(self) -> Block:
        """The next block that is more than a comment."""
        async with asyncio.timeout(PATIENCE):
            async for block in self.blocks():
                if block.data is not None:
                    return block
        raise AssertionError("the stream has ended")

    async def info(self, msg: str) -> Json:
        """The next block, which must be this info."""
        block = await self.next()
        assert block.event == "info", block
        assert block.data["msg"] == msg, block
        data: Json = block.data
        return data

    async def payloads(self, count: int) -> list[Any]:
        """The payloads of the next events, between which no info comes."""
        found = []
        for _ in range(count):
            block = await self.next()
            assert block.event == "message", block
            found.append(block.data["message"]["payload"])
        return found

    async def rest(self) -> list[Block]:
        """Everything up to the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            return [block async for block in self.blocks() if block.data is not None]

    def close(self) -> None:
        self.client.close()
