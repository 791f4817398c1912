"""A faulty network: a TCP proxy between a client and the server that delays, throttles, stalls, discards and resets.

A faulty disk: a disk that does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from tests.harness import PATIENCE

PIECE = 4096  # bytes forwarded at a time
KERNEL_BUFFER = 1 << 15  # small, so that a fault takes effect soon
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class FaultyLine:
    """A proxy whose faults may change at any time. ``delay`` in seconds, ``rate`` in bytes a second (0 is no limit).

    ``swallows``: the proxy receives and discards all data, so each side sees a peer that receives and never sends.
    ``mutes``: it discards what the server sends, and passes on what the client sends.
    """

    target: int
    delay: float = 0.0
    rate: float = 0.0
    swallows: bool = False
    mutes: bool = False
    port: int = 0
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int, *, delay: float = 0.0, rate: float = 0.0) -> AsyncIterator[Self]:
        """Open a proxy to the server at ``port``."""
        line = cls(port, delay, rate)
        line.heal()
        await line._open()
        try:
            yield line
        finally:
            await line._close()

    def stall(self) -> None:
        """Forward nothing and receive nothing: a network partition, for open and for new connections."""
        self._passing.clear()

    def heal(self) -> None:
        self._passing.set()
        self.swallows = self.mutes = False

    def cut(self) -> None:
        """Reset all open connections, on both sides."""
        for writer in self._writers:
            if not writer.transport.is_closing():
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()
        self._writers.clear()

    async def _open(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        self._server = await asyncio.start_server(self._accept, sock=listening, limit=PIECE)
        self.port = listening.getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None, "it is open"
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.target))
        except ConnectionError:  # the server does not run
            sock.close()
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(sock=sock, limit=PIECE)
        self._writers |= {writer, far_writer}
        for source, sink, answers in ((reader, far_writer, False), (far_reader, writer, True)):
            task = asyncio.create_task(self._pass_on(source, sink, answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop raises the second on a transport that was cut
            while True:
                await self._passing.wait()
                piece = await source.read(PIECE)
                if not piece:
                    break
                await asyncio.sleep(self.delay + (len(piece) / self.rate if self.rate else 0))
                await self._passing.wait()
                if not (self.swallows or (self.mutes and answers)):
                    sink.write(piece)
                    await sink.drain()
        sink.close()


class StillDisk:
    """A disk that does not answer: a thread that calls ``method`` of ``owner`` waits until :attr:`works` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.asked = threading.Event()
        self.works = threading.Event()
        original = getattr(owner, method)

        def wait(*arguments: Any) -> Any:
            self.asked.set()
            assert self.works.wait(PATIENCE)
            return original(*arguments)

        monkeypatch.setattr(owner, method, wait)
