"""Identities: a client's id and rights. No I/O.

An Identity comes from an API key (api_keys.py) or from a token (tokens.py).
"""

from __future__ import annotations

from math import inf
from typing import NoReturn

from msgspec import Struct

from pubsub.auth.permissions import NOTHING, RightFilters, Rights, allows, filters_of
from pubsub.auth.trust import Proof
from pubsub.protocol.errors import Forbidden


class Identity(Struct, frozen=True, gc=False, kw_only=True):
    """``client_id`` is the only one that this client may use. ``expires``: a moment of the monotonic clock, so that a
    change of the time of day does not make a connection last longer.

    ``sees_all``: it may also read about other clients. ``admin``: it may change everything.

    ``proof``: the part of the token that may be revoked, or a digest of the API key's entry.
    """

    client_id: str
    subscribes: Rights = NOTHING
    publishes: Rights = NOTHING
    sees_all: bool = False
    admin: bool = False
    expires: float = inf
    proof: bytes | Proof | None = None

    @property
    def filters(self) -> RightFilters:
        """Names and patterns with the filters that all events of such topics have to match before this client may see
        them.
        """
        return ()

    def filters_for(self, topic: str) -> tuple[str, ...]:
        """The texts of the filters for a topic."""
        return filters_of(self.filters, topic)

    def may_subscribe(self, topic: str) -> bool:
        """True if the rights cover the topic. Raises BadRequest."""
        return allows(self.subscribes, topic)

    def require_subscribe(self, topic: str) -> None:
        """Check the right to read a topic: subscribe, unsubscribe, replay, history. Raises Forbidden, BadRequest."""
        if not allows(self.subscribes, topic):
            raise Forbidden(f"Not allowed to subscribe to '{topic}'")

    def require_publish(self, topic: str) -> None:
        """Check the right to publish. Raises Forbidden, BadRequest."""
        if not allows(self.publishes, topic):
            self.refuse_publish(topic)

    def refuse_publish(self, topic: str) -> NoReturn:
        raise Forbidden(f"Not allowed to publish to '{topic}'")

    def require_client_id(self, client_id: str) -> None:
        """Raise Forbidden for another client's id."""
        if client_id != self.client_id:
            raise Forbidden("client_id: expected the one that you are authenticated as")


class FilteredIdentity(Identity, frozen=True, gc=False, kw_only=True):
    """An identity that sees only a part of some topics. A class of its own, so that the others take no more memory."""

    filters: RightFilters
