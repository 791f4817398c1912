"""Quotas: the number of connections in all, and of one client. No I/O."""

from __future__ import annotations

from pubsub.protocol.errors import LimitExceeded, ServerFull


class Quotas:
    """The most connections in all (``in_all``), and of one client (``per_client``); 0 is no limit."""

    __slots__ = ("_claims", "_in_all", "_per_client")

    def __init__(self, *, in_all: int, per_client: int) -> None:
        self._in_all = in_all
        self._per_client = per_client
        self._claims: dict[str, int] = {}

    def check_room(self, connections: int) -> None:
        """Raise ServerFull if the server has all its connections."""
        if self._in_all and connections >= self._in_all:
            raise ServerFull(f"the server has its {self._in_all} connections (MAX_CONNECTIONS)")

    def check_claim(self, client: str) -> None:
        """Raise LimitExceeded if the client has all its connections."""
        if self._per_client and self._claims.get(client, 0) >= self._per_client:
            raise LimitExceeded(f"the client has its {self._per_client} connections (MAX_CONNECTIONS_PER_CLIENT)")

    def claim(self, client: str) -> None:
        """Count a connection of the client."""
        if self._per_client:
            self._claims[client] = self._claims.get(client, 0) + 1

    def release(self, client: str) -> None:
        if self._per_client:
            self._claims[client] -= 1
            if not self._claims[client]:
                del self._claims[client]
