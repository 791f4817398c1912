"""The proxies of ``TRUSTED_PROXIES``: from them alone the server takes the address and the scheme of a client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from pubsub.http.forwarded import Address, Hop

UNIX: Final = "unix"  # stands for every peer on a Unix socket, which has no address


@dataclass(frozen=True, slots=True)
class ForwardedClient:
    """``scheme`` is empty where no trusted proxy tells it."""

    address: str
    scheme: str


class Proxies:
    """``entries`` are addresses, networks and ``unix``. Raises ValueError."""

    def __init__(self, entries: Sequence[str]) -> None:
        try:
            self._networks = tuple(ip_network(entry) for entry in entries if entry != UNIX)
        except ValueError as error:
            raise ValueError(f"expected addresses, networks such as 10.0.0.0/8, or unix: {error}") from None
        self._trusts_unix = UNIX in entries

    def __bool__(self) -> bool:
        return self._trusts_unix or bool(self._networks)

    def trusts(self, peer: str | None) -> bool:
        """``peer`` is an address, or ``unix``."""
        if peer == UNIX:
            return self._trusts_unix
        try:
            address = ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        return self._trusts_address(getattr(address, "ipv4_mapped", None) or address)

    def find_client(self, peer: str, hops: Iterable[Hop]) -> ForwardedClient:
        """The client that ``peer`` is, or speaks for. ``hops``: the nearest first, as ``read_hops`` gives them.

        Each hop was told by a trusted proxy, and the last address that is not trusted is the client's. A hop without an
        address ends the search: the proxy that told it is the last that is known.
        """
        found, scheme = peer, ""
        if not self.trusts(peer):
            return ForwardedClient(found, scheme)
        for hop in hops:
            scheme = hop.scheme
            if hop.address is None:
                break
            found = str(hop.address)
            if not self._trusts_address(hop.address):
                break
        return ForwardedClient(found, scheme)

    def _trusts_address(self, address: Address) -> bool:
        return any(address in network for network in self._networks)
