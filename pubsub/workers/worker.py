"""One worker as the supervisor sees it: its process, its control socket and its share of the connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from pubsub.settings import Settings
from pubsub.workers.control import (
    BEAT,
    DRAIN,
    LEAVE,
    LOAD,
    READY,
    SETTINGS,
    START,
    Control,
    Drain,
    Load,
    Message,
    Start,
)
from pubsub.workers.pauses import Pauses
from pubsub.workers.spread import Share

log = logging.getLogger(__name__)

MODULE: Final = "pubsub.workers.process"


class Worker:
    """See the module. ``number``: from 1. ``share``: of its present process. ``starts``: how often it was started.
    ``served``: the seconds for which the last process was ready. ``server``: its id among those that share topics.

    ``changed`` is called when it may take more connections than before. ``asked`` gets its other messages.
    """

    asked: Callable[[Worker, Message], None]

    def __init__(self, number: int, changed: Callable[[], None]) -> None:
        self.number = number
        self.share = Share()
        self.starts = 0
        self.served = 0.0
        self.server = b""
        self.ready = asyncio.Event()
        self.pauses = Pauses()
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._control: Control | None = None
        self._ended = asyncio.Event()
        self._ready_at = 0.0

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def starting(self) -> bool:
        """Its process has begun, and has not said yet that it is ready."""
        return self.running and not self.ready.is_set()

    async def run(self, start: Start) -> int:
        """Start a process, and wait for its end. Returns its exit status, or the negative number of its signal."""
        ours, theirs = socket.socketpair()
        self.share, self.starts = Share(), self.starts + 1
        self.ready.clear()
        self._ended.clear()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", MODULE, str(theirs.fileno()), f"worker-{self.number}"),  # a name for ps
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._control = Control(ours, self._take, self._lost)
        self._control.send(START, msgspec.json.encode(start))
        try:
            return await self._process.wait()
        finally:
            self._lost()
            self._control.close()
            self._process = self._control = None
            self._ended.set()
            self.served = time.monotonic() - self._ready_at if self.ready.is_set() else 0.0

    def hand_over(self, connection: socket.socket) -> bool:
        """Give it a connection. False if it has no room for it now."""
        if self._control is None or not self._control.send_connection(connection):
            return False
        self.share.handed += 1
        return True

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Send a message, if the worker runs."""
        if self._control is not None:
            self._control.send(kind, body)

    def change_settings(self, settings: Settings) -> None:
        self.send(SETTINGS, msgspec.json.encode(settings))

    def leave(self) -> None:
        """Have its health tell that it is about to end."""
        self.send(LEAVE)

    async def drain(self, within: float) -> None:
        """End it within so many seconds, with its clients; kill it if it needs longer."""
        if self._control is None or self._process is None:
            return
        self.share.open = False
        self._control.send(DRAIN, msgspec.json.encode(Drain(within * 0.95)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), within)
        if not self._ended.is_set():
            log.warning("Worker %(worker)d has not ended in time, and is killed", {"worker": self.number})
            self.kill()
            await self._ended.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _take(self, message: Message) -> None:
        if message.kind == READY:
            self.server = message.body
            self.share.open, self.share.unanswered = True, 0
            self.ready.set()
            self._ready_at = time.monotonic()
        elif message.kind == LOAD:
            load = msgspec.json.decode(message.body, type=Load)
            self.share.received, self.share.ended = load.received, load.ended
        elif message.kind == BEAT:
            self.share.unanswered, self.share.trouble = 0, message.body.decode()
        else:
            self.asked(self, message)
            return
        self._changed()

    def _lost(self) -> None:
        self.share.open = False
