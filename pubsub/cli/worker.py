"""A thread for calls that may block for ever. It must never delay the end of the program, as an executor's would."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress


class Worker:
    """Makes calls one after the other. After one that raised, none is made any more: each raises the same."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._failure: Exception | None = None
        threading.Thread(target=self._run, daemon=True).start()

    async def call(self, function: Callable[[], None]) -> None:
        """Call ``function`` in the thread; raises what it raises. A cancellation does not end the call."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()

        def make() -> None:
            self._make(function)
            with suppress(RuntimeError):  # the loop may be closed: nobody waits any more
                loop.call_soon_threadsafe(self._tell, outcome)

        self._calls.put(make)
        await outcome

    def _run(self) -> None:
        while True:
            self._calls.get()()

    def _make(self, function: Callable[[], None]) -> None:
        if self._failure is None:
            try:
                function()
            except Exception as failure:
                self._failure = failure

    def _tell(self, outcome: asyncio.Future[None]) -> None:
        if outcome.done():
            return
        if self._failure is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(self._failure)
