"""Items on their way from an event loop to threads. It must never have many, so that a slow thread is felt."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from typing import Final, Generic, TypeVar

__all__ = ["Closed", "Handover"]

ROOM: Final = 100  # items: a thread that waits is woken once for many

Item = TypeVar("Item")


class Closed(Exception):
    """There will be no more items."""


class Handover(Generic[Item]):
    """Made in the loop that puts items in; any thread gets them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._end: BaseException | None = None

    async def put(self, item: Item) -> None:
        """Add an item. If there is no room for a further one, wait for it."""
        with self._changed:
            self._items.append(item)
            self._changed.notify()
        if len(self._items) >= ROOM:
            self._room.clear()
            await self._room.wait()

    def clear(self) -> None:
        """Forget the items, from within the loop."""
        with self._changed:
            self._items.clear()
        self._room.set()

    def end(self, error: BaseException) -> None:
        """Add no more. After the last item, each :meth:`get` raises the first ``error`` that comes here."""
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Item:
        """Return the next item. Raises TimeoutError after ``timeout`` seconds, and the error of the end."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._end, timeout):
                raise TimeoutError(f"nothing came within {timeout} s")
            if not self._items:
                assert self._end is not None, "it was waited for"
                raise self._end
            item = self._items.popleft()
        if len(self._items) == ROOM // 2:
            with suppress(RuntimeError):  # the loop is closed, and nothing more comes
                self._loop.call_soon_threadsafe(self._room.set)
        return item
