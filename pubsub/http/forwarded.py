"""Reads what proxies say of a client: ``X-Forwarded-For``, ``X-Forwarded-Proto`` and ``Forwarded`` (RFC 7239).

Whether a proxy is believed is not decided here. Nothing here raises, whatever the header fields hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multidict import MultiMapping

Address = IPv4Address | IPv6Address

MAX_HOPS: Final = 16  # entries that are looked at; no real chain is as long, and each takes 2 µs
MAX_FIELD: Final = 1024  # characters of one Forwarded, which takes up to 0.1 ms to parse

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR: Final = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*+)")([ \t]*[;,][ \t;,]*|[ \t]*\Z)')
_NODE: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[\w.-]+)?|([0-9A-Fa-f:.]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hop:
    """The statement of one proxy about its client. ``address`` is None where that is hidden, or no address."""

    address: Address | None
    scheme: str


def read_hops(headers: MultiMapping[str]) -> Iterator[Hop]:
    """The hops of a request, the nearest first, MAX_HOPS at most.

    Where there is an X-Forwarded field, ``Forwarded`` is not read: the proxies that write the former let a client's
    own ``Forwarded`` through.
    """
    return islice(_read_hops(headers), MAX_HOPS)


def _read_hops(headers: MultiMapping[str]) -> Iterator[Hop]:
    addresses, schemes = headers.getall("X-Forwarded-For", []), headers.getall("X-Forwarded-Proto", [])
    if addresses or schemes:
        scheme = ",".join(schemes).rpartition(",")[2].strip().lower()
        for entry in reversed(",".join(addresses).rsplit(",", MAX_HOPS)):
            yield Hop(read_node(entry.strip()), scheme)
        return
    for field in reversed(headers.getall("Forwarded", [])):
        for element in reversed(read_forwarded_elements(field) or [{}]):
            yield Hop(read_node(element.get("for", "")), element.get("proto", "").lower())


def read_forwarded_elements(text: str) -> list[dict[str, str]] | None:
    """The elements of one ``Forwarded``, their parameters by name; None where it is too long, or malformed anywhere.

    A client may have sent the beginning of it. With a quote that it opens there, the element that a proxy has added
    behind it would be taken for a part of the client's.
    """
    if len(text) > MAX_FIELD:
        return None
    elements: list[dict[str, str]] = [{}]
    end = 0
    while pair := _PAIR.match(text, end):
        name, token, quoted, separator = pair.groups()
        elements[-1][name.lower()] = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
        end = pair.end()
        if end == len(text):
            return elements
        if "," in separator:
            elements.append({})
    return None


def read_node(text: str) -> Address | None:
    """The address of ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]`` or ``[2001:db8::1]:80``.

    None for anything else, such as ``unknown`` and ``_hidden``. One of IPv4 within IPv6 is that of IPv4.
    """
    node = _NODE.fullmatch(text)
    if node is None:
        return None
    try:
        address = ip_address(node[1] or node[2] or node[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
