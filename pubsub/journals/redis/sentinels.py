"""The sentinels of a service: they know its primary, and tell of the next one at once. One of them is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from pubsub.journals.redis.address import Address, Place
from pubsub.journals.redis.connection import Connection, Lost, Refused, connect

NEWS: Final = "+switch-master"


class Sentinels:
    """See the module. ``moved`` is called when a sentinel tells of another primary than the last one.

    The connection to the one that has answered is kept, for its news.
    """

    def __init__(self, address: Address, moved: Callable[[], None]) -> None:
        self._address = address
        self._moved = moved
        self._places = list(address.places)
        self._line: Connection | None = None

    async def find_primary(self) -> Place:
        """Ask for the present primary. Raises Lost if no sentinel knows one."""
        reasons: list[str] = []
        for place in list(self._places):
            try:
                found = await self._ask(place)
                self._places.sort(key=lambda each: each != place)  # the one that answers comes first from now on
                return found
            except (Lost, Refused) as error:
                self.close()
                reasons.append(f"{place}: {error}")
        raise Lost("; ".join(reasons))

    async def _ask(self, place: Place) -> Place:
        service = self._address.service
        line = self._line or await self._connect(place)
        found = await line.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        if found is None:
            raise Refused(f"expected a service that Sentinel knows, got {service!r}")
        return Place(found[0].decode(), int(found[1]))

    async def _connect(self, place: Place) -> Connection:
        line, _ = await connect(self._address, place, self._address.sentinel_login, self._hear, self._lose)
        self._line = line
        with contextlib.suppress(Refused):  # a user without the right: then only the questions tell
            await line.ask("SUBSCRIBE", NEWS)
        return line

    def _hear(self, _: bytes, message: bytes) -> None:
        if message.split(b" ")[0].decode(errors="replace") == self._address.service:
            self._moved()

    def _lose(self, _: str) -> None:
        self._line = None

    def close(self) -> None:
        if self._line is not None:
            self._line.close("it is not needed any more")
