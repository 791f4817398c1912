"""A thread of the durable journal: it works for the loop, step by step, and the loop gets each result."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Answer = TypeVar("Answer")


class Worker:
    """See the module. ``post`` runs a callback on the loop, from any thread."""

    def __init__(self, name: str, post: Callable[[Callable[[], None]], object]) -> None:
        self._executor = ThreadPoolExecutor(1, name)
        self._post = post

    def submit(self, work: Callable[[], Answer], then: Callable[[Answer], None]) -> None:
        """Run ``work`` in the thread, after all earlier work, then call ``then`` on the loop with its result."""

        def end(future: Future[Answer]) -> None:
            self._post(lambda: then(future.result()))

        self._executor.submit(work).add_done_callback(end)

    def close(self, last: Callable[[], None]) -> None:
        """Run ``last`` in the thread after all other work, and wait for its end."""
        self._executor.submit(last)
        self._executor.shutdown()
