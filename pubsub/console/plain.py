"""A session without a terminal: the lines of a script in order, each answered before the next. It must never prompt."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from pubsub.console.commands import Quit
from pubsub.console.console import Console
from pubsub.console.first_of import first_of

CHUNK_BYTES = 65536
RECONNECT_WAIT_SEC = 30.0
"""A command fails when the connection is lost and not there again within this time."""


async def run_plain(console: Console) -> int:
    """Run the commands of standard input to its end; return 1 if a command failed, otherwise 0.

    Raises PubsubError if there is no connection, and none will be tried any more. It ends when nobody reads the output.
    """
    async with console.client:
        await first_of(_run_lines(console), console.connection.wait_ended(), console.wait_output_closed())
    console.connection.require_alive()
    return 1 if console.failed else 0


async def _run_lines(console: Console) -> None:
    async for line in read_lines():
        command = console.read(line)
        if isinstance(command, Quit):
            break
        await console.connection.wait_open(within=RECONNECT_WAIT_SEC)
        await console.run(command)
    await console.settle()


async def read_lines() -> AsyncIterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 become lone surrogates."""
    unfinished = b""
    while chunk := await _read_chunk(sys.stdin.fileno()):
        *lines, unfinished = (unfinished + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="surrogateescape")
    yield unfinished.decode(errors="surrogateescape")


async def _read_chunk(descriptor: int) -> bytes:
    """Read the available bytes, without a thread: one that is blocked in a read would delay the end of the program."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except (PermissionError, NotImplementedError):
        # epoll accepts no regular file and no /dev/null, which never block; the loop of Windows accepts only sockets.
        return os.read(descriptor, CHUNK_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, CHUNK_BYTES)
