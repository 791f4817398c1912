"""The state of the console's connection, and remarks on its news. It must never connect by itself."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pubsub.client import PubsubError, State, StateChange, Unreachable


class Connection:
    """A connection over all reconnects. ``name``: of the server and the client. ``remark`` gets the news.

    ``error``: the reason for which the client connects no more; None as long as it does.
    """

    def __init__(self, name: str, remark: Callable[[str], None]) -> None:
        self.name = name
        self.state = State.CONNECTING
        self.error: PubsubError | None = None
        self._remark = remark
        self._reason = "no connection was made yet"
        self._was_open = False
        self._opened = asyncio.Event()
        self._ended = asyncio.Event()

    def note(self, change: StateChange) -> None:
        """Take a change of the client's state."""
        self.state = change.state
        match change.state:
            case State.OPEN:
                self._note_open()
            case State.CONNECTING:
                self._note_loss(change)
            case State.CLOSED if change.error is not None:  # without an error it is the end of the console
                self._opened.clear()
                self._reason = change.reason
                self.error = change.error
                self._ended.set()

    async def wait_open(self, *, within: float | None = None) -> None:
        """Wait for a connection, and no longer than ``within`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._opened.wait()

    async def wait_ended(self) -> None:
        """Wait until the client connects no more."""
        await self._ended.wait()

    def require_alive(self) -> None:
        """Raise the reason for which the client connects no more, if there is one."""
        if self.error is not None:
            raise self.error

    def require_open(self) -> None:
        """Raise Unreachable if there is no connection: no command waits for the next one."""
        if self.state is not State.OPEN:
            raise Unreachable(f"not connected: {self._reason}")

    def _note_open(self) -> None:
        if self._was_open:
            self._remark(f"connected again to {self.name}")
        self._was_open = True
        self._reason = ""
        self._opened.set()

    def _note_loss(self, change: StateChange) -> None:
        self._opened.clear()
        if change.reason != self._reason:
            self._remark(f"{change.reason}; trying again")
        self._reason = change.reason
