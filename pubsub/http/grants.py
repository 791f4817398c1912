"""The rights of one request, as the core asks for them, and the filters of its token."""

from __future__ import annotations

from aiohttp import web

from pubsub.auth.identity import Identity
from pubsub.filters.filters import Filters
from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITY
from pubsub.websocket.grants import IdentityGrant


class RequestGrant(IdentityGrant):
    """See the module."""

    __slots__ = ("_filters", "client_id", "identity")

    def __init__(self, identity: Identity, filters: Filters) -> None:
        self.identity: Identity | None = identity
        self.client_id = identity.client_id
        self._filters = filters

    @property
    def filters(self) -> Filters:
        return self._filters


def grant_of(request: web.Request) -> RequestGrant:
    return RequestGrant(request[IDENTITY], request.app[BROKER].filters)
