"""The contract of the bus between servers, which the journal of several servers has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

MOST_BYTES: Final = 64 * 1024  # of one message


class Bus(Protocol):
    """Messages for all servers. A message comes to its sender too. Those of one server come in their order.

    Any may be lost.
    """

    @property
    def server(self) -> str:
        """The id of this server, which no other start of a server ever has."""
        ...

    def tell(self, kind: str, data: bytes) -> None:
        """Send up to MOST_BYTES to all servers. It never fails: without a connection the message may be lost."""
        ...

    def hear(self, kind: str, callback: Callable[[str, bytes], None]) -> None:
        """Call ``callback`` with the server and the data of each message of a kind, from now on."""
        ...
