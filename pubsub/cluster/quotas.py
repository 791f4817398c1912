"""The connections of each client to all servers, for a limit that holds for the whole. No I/O.

Servers tell each other of connections a little later than they begin. A client that has connected to several servers
within that time may have too many: all servers hear of them in one order, and the one that is last closes its newest.
"""

from __future__ import annotations

from typing import Final

from pubsub.auth.quotas import Quotas

KIND: Final = "connections"
ALL: Final = ""  # the one group


class SharedQuotas:
    """See the module: a Counter for the Quotas."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._heard: dict[str, int] = {}  # by client: its connections to this server, as all have heard of them

    def told(self, group: str, name: str, count: int) -> None:
        """All servers have heard this count. What is over the limit by it came last, and is closed."""
        quotas = self._quotas
        before = self._heard.pop(name, 0)
        if count:
            self._heard[name] = count
        present = min(count, quotas.claims.get(name, 0))
        surplus = min(present - before, present + quotas.elsewhere.get(name, 0) - quotas.per_client)
        if surplus > 0 and quotas.close is not None:
            quotas.close(name, surplus)

    def count(self, group: str, name: str) -> int:
        return self._quotas.claims.get(name, 0)

    @property
    def groups(self) -> list[str]:
        return [ALL]

    def names_in(self, group: str) -> list[str]:
        return list(self._quotas.claims)

    def change(self, group: str, name: str, more: int, *, dead: bool) -> None:
        elsewhere = self._quotas.elsewhere
        elsewhere[name] = elsewhere.get(name, 0) + more
        if not elsewhere[name]:
            del elsewhere[name]
