"""Standard input, read without a thread: one that is blocked in a read would delay the end of the program."""

import asyncio
import os
from typing import Final

STANDARD_INPUT: Final = 0
CHUNK_BYTES: Final = 65536


async def read_chunk() -> bytes:
    """Read the available bytes, or wait for some; empty at the end."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(STANDARD_INPUT, ready.set)
    except (PermissionError, NotImplementedError):
        # epoll accepts no regular file and no /dev/null, which never block; the loop of Windows accepts only sockets.
        return os.read(STANDARD_INPUT, CHUNK_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(STANDARD_INPUT)
    return os.read(STANDARD_INPUT, CHUNK_BYTES)
