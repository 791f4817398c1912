"""A call in a thread that may never return, as to a disk that does not answer. Nobody waits for it for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

PATIENCE: Final = 2.0  # seconds

Answer = TypeVar("Answer")


class SingleCall(Generic[Answer]):
    """See the module. There is one call at a time, so that those that do not return use up one thread, and not all."""

    def __init__(self) -> None:
        self._call: asyncio.Future[Answer] | None = None

    async def ask(self, function: Callable[[], Answer], patience: float = PATIENCE) -> Answer | None:
        """The answer of ``function``, or of a call that runs already; None if it does not come in time."""
        if self._call is None or self._call.done():
            self._call = asyncio.ensure_future(asyncio.to_thread(function))
        call = self._call
        await asyncio.wait([call], timeout=patience)
        return call.result() if call.done() else None
