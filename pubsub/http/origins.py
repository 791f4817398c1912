"""Origins of web pages, and names of the server: a page of a foreign site must not act for the person who opens it.

Nothing here knows keys or tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

from aiohttp import web

from pubsub.http.addresses import is_secure, is_unix_peer
from pubsub.protocol.errors import Forbidden

FOREIGN_SITES: Final = {"cross-site", "same-site"}  # of Sec-Fetch-Site, which says it where a browser hides the origin


class Origins:
    """The origins of ``ALLOWED_ORIGINS``, beside which the server's own is always allowed."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self.allowed = frozenset(allowed)

    def check_origin(self, request: web.Request) -> None:
        """Raises Forbidden for a request of a foreign page."""
        origin = request.headers.get("Origin")
        if origin is None:
            foreign = request.headers.get("Sec-Fetch-Site") in FOREIGN_SITES
        else:
            foreign = origin not in self.allowed and not is_own_origin(
                origin, request.headers.get("Host", ""), secure=is_secure(request)
            )
        if foreign:
            raise Forbidden("Origin: not allowed here (ALLOWED_ORIGINS)")

    def check_host(self, request: web.Request) -> None:
        """Raises Forbidden for a page whose name was made to mean this machine (DNS rebinding).

        Such a page is of its own origin. That origin is http: for https it would need a certificate. No other page
        comes over loopback by a name of the Internet, but through a proxy that does not end TLS; then the name must be
        listed. A Unix socket counts as loopback: no browser reaches it but through a proxy, which may listen there.
        """
        host = request.headers.get("Host", "")
        if (
            request.headers.get("Origin", "").startswith("http:")
            and (came_over_loopback(request) or is_unix_peer(request))
            and not is_local_name(host)
            and self.allowed.isdisjoint((f"https://{host}", f"http://{host}"))
        ):
            raise Forbidden("Host: not a name of this machine (ALLOWED_ORIGINS)")


ORIGINS: Final = web.AppKey("origins", Origins)


def came_over_loopback(request: web.Request) -> bool:
    own_end = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return isinstance(own_end, tuple) and is_loopback(own_end[0])


def is_loopback(host: str) -> bool:
    """True for an address, or ``localhost``, that only this machine reaches; also for one of IPv4 within IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_local_name(host: str) -> bool:
    """True for a name or an address that nobody can make mean another server: it does not stand in public DNS."""
    name = re.sub(r":[0-9]*\Z", "", host).strip("[]").rstrip(".").lower()
    return "." not in name or name.endswith(".localhost") or is_address(name)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_own_origin(origin: str, host: str, *, secure: bool) -> bool:
    """True if a page of ``origin`` came from where the request goes to: the same host and port, to the letter.

    The scheme must be https where that is certain; behind a proxy that ends TLS it is not known.
    """
    return origin == f"https://{host}" or (origin == f"http://{host}" and not secure)
