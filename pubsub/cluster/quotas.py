"""The connections of each client to all servers, for a limit that holds for the whole. No I/O.

Servers tell each other of connections a little later than they begin: clients that connect to several servers within
that time may pass the limit.
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
