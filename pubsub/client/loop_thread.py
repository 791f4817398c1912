"""A thread with an event loop of its own, so that code without a loop can run coroutines. It knows no protocol.

It works where a loop runs already, as in a notebook. It must never keep the interpreter from its exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopThread:
    """A loop that runs from here to :meth:`close`."""

    def __init__(self, name: str) -> None:
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon: others are joined at the exit of the interpreter before anything could stop this one.
        self._thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        self.loop = started.result()

    def _run(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        # At the exit of the interpreter, Python 3.12 can't start the thread by which asyncio ends its executor.
        with contextlib.suppress(RuntimeError):
            asyncio.run(self._stay(started))

    async def _stay(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        self._closed = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._closed.wait()

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end and return its result. An interrupt of the caller (Ctrl-C) cancels it.

        Raises RuntimeError after :meth:`close`.
        """
        if self.loop.is_closed():
            coroutine.close()
            raise RuntimeError("closed already")
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
        except KeyboardInterrupt:  # maybe before the future was here
            self.loop.call_soon_threadsafe(_cancel, coroutine)
            raise

    def close(self) -> None:
        """Cancel what still runs, and wait for the end of the thread. A second call does nothing."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._closed.set)
        if self._thread is not threading.current_thread():  # where the collector of cycles may have called this
            self._thread.join()


def _cancel(coroutine: Coroutine[Any, Any, object]) -> None:
    for task in asyncio.all_tasks():
        if task.get_coro() is coroutine:
            task.cancel()
