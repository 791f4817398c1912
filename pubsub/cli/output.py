"""Lines on standard output, written by a thread: a reader that stalls must never delay the heartbeats of a connection.

A line is never divided by another one, and none comes before a line that was put earlier.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from pubsub.cli.running import OutputClosed, Unusable
from pubsub.cli.worker import Worker

STANDARD_OUTPUT: Final = 1
MAX_WAITING: Final = 1 << 20
"""Bytes of lines that wait for the thread; beyond them an output is full."""

Step = Callable[[], None]


def no_step() -> None:
    """Do nothing after lines have been written."""


class Output:
    """Lines for a file descriptor, those of one tick in one write.

    ``checkpoint`` is called when lines are handed to the thread. It returns the step to do once they have been written,
    which may raise Unusable: it saves the positions that these lines reach.
    """

    def __init__(self, descriptor: int, *, checkpoint: Callable[[], Step] = lambda: no_step) -> None:
        self._descriptor = descriptor
        self._checkpoint = checkpoint
        self._worker = Worker()
        self._lines: list[bytes] = []
        self._size = 0
        self._changed = asyncio.Event()  # there are lines, or the reader has gone
        self._handed_over = asyncio.Event()
        self._is_closed = False

    def put(self, line: bytes) -> None:
        """Have a line written; it ends with its line break."""
        self._lines.append(line)
        self._size += len(line)
        self._changed.set()

    @property
    def is_full(self) -> bool:
        return self._size >= MAX_WAITING

    async def wait_for_room(self) -> None:
        """Wait until the thread has got the lines that were put so far."""
        self._handed_over.clear()
        await self._handed_over.wait()

    async def run(self) -> None:
        """Write lines as they come, for ever. Raises as :meth:`flush` does, and OutputClosed as soon as that is so."""
        with self._watched():
            while True:
                await self._changed.wait()
                if self._is_closed:
                    raise OutputClosed
                await self.flush()

    async def flush(self) -> None:
        """Write the lines that were put so far, and do the step of the checkpoint.

        A cancellation does not end what the thread does. Raises OutputClosed and Unusable.
        """
        lines, self._lines, self._size = b"".join(self._lines), [], 0
        self._changed.clear()
        self._handed_over.set()
        await self._worker.call(partial(write, self._descriptor, lines, self._checkpoint()))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Notice the end of the reader of a pipe without writing. Other outputs never tell it so."""
        if not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._close)
        try:
            yield
        finally:
            loop.remove_reader(self._descriptor)

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._is_closed = True
        self._changed.set()


def write(descriptor: int, lines: bytes, following: Step = no_step) -> None:
    """Write all of ``lines``, also to a descriptor that does not block, then do the ``following`` step.

    Raises OutputClosed and Unusable.
    """
    unwritten = memoryview(lines)
    try:
        while unwritten:
            unwritten = unwritten[_write_some(descriptor, unwritten) :]
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise Unusable(f"the output: {error.strerror}") from None
    following()


def _write_some(descriptor: int, unwritten: memoryview) -> int:
    try:
        return os.write(descriptor, unwritten)
    except BlockingIOError:
        select.select([], [descriptor], [])
        return 0
