"""The rights of one client, as the core asks for them (Grant): those of its identity, or all if it needs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Raw, UnsetType

from pubsub.auth.permissions import allows_some
from pubsub.core.subscription import Subscription
from pubsub.filters.filters import Filter, Filters, Matcher
from pubsub.protocol.errors import BadRequest, Forbidden
from pubsub.protocol.patterns import check_pattern, has_wildcard

if TYPE_CHECKING:
    from pubsub.auth.identity import Identity


class IdentityGrant:
    """See the module. A subclass has the client's ``identity``, which is None if it may everything."""

    __slots__ = ()

    identity: Identity | None

    @property
    def filters(self) -> Filters:
        """All filters of the server."""
        raise NotImplementedError

    def may_subscribe(self, topic: str) -> bool:
        return self.identity is None or self.identity.may_subscribe(topic)

    def may_subscribe_some(self, pattern: str) -> bool:
        """True if there can be a topic that the pattern covers and that the rights cover too."""
        return self.identity is None or allows_some(self.identity.subscribes, pattern)

    def filters_for(self, topic: str) -> Sequence[Filter]:
        """The filters of the token that an event of the topic has to match."""
        if self.identity is None:
            return ()
        return [self.filters.compile(text) for text in self.identity.filters_for(topic)]

    def require_subscribe(self, name: str) -> None:
        """Check the right to a topic, or to a part of what a pattern covers. Raises Forbidden, BadRequest."""
        if has_wildcard(name):
            check_pattern(name)
            if not self.may_subscribe_some(name):
                raise Forbidden(f"Not allowed to subscribe to '{name}'")
        elif self.identity is not None:
            self.identity.require_subscribe(name)

    def read_subscription(self, name: str, text: str | UnsetType, params: Raw | UnsetType) -> Subscription:
        """A subscription with the filter that a request brings, if it brings one. Raises BadRequest."""
        return Subscription(name, self.read_filter(text, params))

    def read_filter(self, text: str | UnsetType, params: Raw | UnsetType) -> Filter | None:
        """Raises BadRequest."""
        if isinstance(text, str):
            return self.filters.compile(text, None if isinstance(params, UnsetType) else params)
        if not isinstance(params, UnsetType):
            raise BadRequest("params: expected beside a filter, got no filter")
        return None

    def join_filters(self, topic: str, wanted: Filter | None) -> Matcher | None:
        """The filter of a request for the topic's messages, with those of the token; None if it is all."""
        return self.filters.join(self.filters_for(topic), None if wanted is None else [wanted])
