"""Access control: lets a request through to its handler by origin, identity, rate and role.

Rights to topics are not decided here: handlers and sessions ask the Identity for them.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from pubsub.auth.identity import Identity
from pubsub.auth.permissions import NOTHING
from pubsub.http.identities import IDENTITIES, IDENTITY
from pubsub.http.origins import ORIGINS
from pubsub.http.routes import RouteRole, find_route
from pubsub.protocol.errors import Forbidden

READING: Final = {"GET", "HEAD", "OPTIONS"}


@web.middleware
async def check_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where a request is let through to its handler."""
    route = find_route(request)
    app = request.app
    identities, origins = app[IDENTITIES], app[ORIGINS]
    if request.method not in READING:
        origins.check_origin(request)
    match route.role if route is not None else RouteRole.IDENTIFIED:  # without a route for a 404 or a 405
        case RouteRole.NONE:
            pass
        case RouteRole.STREAM:
            if not identities.tokens and identities.rest_is_open:
                origins.check_host(request)
        case RouteRole.HANDSHAKE:
            if not identities.tokens:
                origins.check_host(request)
        case role:
            if identities.rest_is_open:  # a page of a name that means this machine has neither key nor token
                origins.check_host(request)
            request[IDENTITY] = identity = await identities.identify(request)
            identities.count(request, identity)
            check_role(identity, role)
    return await handler(request)


def check_role(identity: Identity, role: RouteRole) -> None:
    """Raises Forbidden."""
    match role:
        case RouteRole.PUBLISH:
            allowed = identity.publishes != NOTHING
        case RouteRole.READ:
            allowed = identity.sees_all
        case RouteRole.ADMIN:
            allowed = identity.admin
        case _:
            allowed = True
    if not allowed:
        raise Forbidden("not allowed with this key or token")
