"""Quotas: the number of connections in all, and of one client. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from pubsub.protocol.errors import LimitExceeded, ServerFull


class Quotas:
    """The most connections in all (``in_all``), and of one client (``per_client``); 0 is no limit.

    ``claims``: the connections of each client to this server, kept if there is a limit. ``touch``: is called with a
    client whose number has changed. ``elsewhere``: the connections of a client to other servers. ``close`` is called
    with a client and the number of its connections that are too many, once other servers have told theirs.
    """

    __slots__ = ("_in_all", "claims", "close", "elsewhere", "per_client", "touch")

    def __init__(self, *, in_all: int, per_client: int) -> None:
        self._in_all = in_all
        self.per_client = per_client
        self.claims: dict[str, int] = {}
        self.touch: Callable[[str], None] | None = None
        self.close: Callable[[str, int], object] | None = None
        self.elsewhere: dict[str, int] = {}

    def check_room(self, connections: int) -> None:
        """Raise ServerFull if the server has all its connections."""
        if self._in_all and connections >= self._in_all:
            raise ServerFull(f"the server has its {self._in_all} connections (MAX_CONNECTIONS)")

    def check_claim(self, client: str) -> None:
        """Raise LimitExceeded if the client has all its connections."""
        if self.per_client and self.claims.get(client, 0) + self.elsewhere.get(client, 0) >= self.per_client:
            raise LimitExceeded(f"the client has its {self.per_client} connections (MAX_CONNECTIONS_PER_CLIENT)")

    def claim(self, client: str) -> None:
        """Count a connection of the client."""
        if self.per_client:
            self.claims[client] = self.claims.get(client, 0) + 1
            if self.touch is not None:
                self.touch(client)

    def release(self, client: str) -> None:
        if self.per_client:
            self.claims[client] -= 1
            if not self.claims[client]:
                del self.claims[client]
            if self.touch is not None:
                self.touch(client)
