"""Addresses of clients, as far as the server knows them: those of their sockets, or what trusted proxies tell."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.http.forwarded import read_hops
from pubsub.http.proxies import UNIX, ForwardedClient, Proxies

PROXIES: Final = web.AppKey("proxies", Proxies)
FORWARDED_CLIENT: Final = web.RequestKey("forwarded_client", ForwardedClient)


def add_proxies(app: web.Application, proxies: Proxies) -> None:
    """Have the Application believe them."""
    app[PROXIES] = proxies
    app.middlewares.insert(0, believe_proxies)


@web.middleware
async def believe_proxies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Before all else, so that each log line of the request has the address of its client."""
    proxies, peer = request.app[PROXIES], peer_of(request)
    if proxies.trusts(peer):
        request[FORWARDED_CLIENT] = proxies.find_client(peer, read_hops(request.headers))
    return await handler(request)


def address_of(request: web.BaseRequest) -> str:
    """The address of the client, ``unix``, or an empty text where the client is gone."""
    client = request.get(FORWARDED_CLIENT)
    return client.address if client is not None else peer_of(request)


def is_secure(request: web.BaseRequest) -> bool:
    """True if the client certainly came by TLS."""
    client = request.get(FORWARDED_CLIENT)
    return request.secure if client is None or not client.scheme else client.scheme in ("https", "wss")


def peer_of(request: web.BaseRequest) -> str:
    """The address of the socket's other end, ``unix``, or an empty text where that was gone from the beginning.

    On a Unix socket ``request.remote`` is the path to which the client has bound its own end. The client chooses it for
    each connection anew, and it may be the address of somebody else: aiohttp does not tell the two apart in public.
    """
    peername = request._transport_peername
    if isinstance(peername, tuple):
        return str(peername[0])
    return "" if peername is None else UNIX


def is_unix_peer(request: web.BaseRequest) -> bool:
    return peer_of(request) == UNIX
