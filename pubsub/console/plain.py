"""A session without a terminal: a script's lines in order, each answered before the next."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

from pubsub.client.address import Unreachable
from pubsub.console.commands import Quit
from pubsub.console.console import Console

CHUNK_BYTES = 65536
RECONNECT_WAIT_SEC = 30.0
"""So long a command waits for a connection that was lost, before it fails."""


async def run_plain(console: Console) -> int:
    """Carry out standard input to its end; the result is 1 when a command failed, and otherwise 0.

    Raises ``Unreachable``, in a group, when there is no connection and there will be none.
    """
    async with asyncio.TaskGroup() as group:
        link = group.create_task(_keep_open(console))
        await console.link.wait_open()
        await _carry_out_lines(console)
        await console.settle()
        link.cancel()
    return 1 if console.failed else 0


async def _keep_open(console: Console) -> None:
    ending = await console.link.keep_open(persistent=False)
    raise Unreachable(ending.reason)


async def _carry_out_lines(console: Console) -> None:
    async for line in read_lines():
        command = console.read(line)
        if isinstance(command, Quit):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_WAIT_SEC):
                await console.link.wait_open()
        await console.carry_out(command)


async def read_lines() -> AsyncIterator[str]:
    """The lines of standard input; bytes that are not UTF-8 come as lone surrogates."""
    rest = b""
    while chunk := await _read_chunk(sys.stdin.fileno()):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="surrogateescape")
    yield rest.decode(errors="surrogateescape")


async def _read_chunk(descriptor: int) -> bytes:
    """What is there to read. It needs no thread: one in a blocked read would hold up the end of the program."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except (PermissionError, NotImplementedError):
        # epoll takes no regular file and no /dev/null, which never block; Windows' loop takes nothing but sockets.
        return os.read(descriptor, CHUNK_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
