"""The patterns of all subscribers as a tree of segments: a name finds its patterns without a scan. No I/O.

A publish never comes here. Only a topic that appears, and a subscriber whose subscriptions change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pubsub.protocol.patterns import ONE_SEGMENT, REST

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber
    from pubsub.core.subscription import Subscription

Subscribed = dict["Subscriber", "Subscription"]


class Node:
    """A segment of patterns. ``exact``: subscribers of the pattern that ends here; ``rest``: with ``>`` behind it."""

    __slots__ = ("children", "exact", "rest")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.exact: Subscribed = {}
        self.rest: Subscribed = {}

    @property
    def is_empty(self) -> bool:
        return not (self.children or self.exact or self.rest)


class PatternIndex:
    """See the module."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = Node()

    def add(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """Add a subscription to a pattern; it replaces the one of the same subscriber to the same pattern."""
        node = self._root
        *segments, last = subscription.name.split(".")
        for segment in segments:
            node = node.children.setdefault(segment, Node())
        if last == REST:
            node.rest[subscriber] = subscription
        else:
            node.children.setdefault(last, Node()).exact[subscriber] = subscription

    def remove(self, subscriber: Subscriber, pattern: str) -> None:
        """Remove a subscription, and the segments that no other pattern has."""
        path = [self._root]
        *segments, last = pattern.split(".")
        if last != REST:
            segments.append(last)
        for segment in segments:
            path.append(path[-1].children[segment])
        del (path[-1].rest if last == REST else path[-1].exact)[subscriber]
        while segments and path[-1].is_empty:
            path.pop()
            del path[-1].children[segments.pop()]

    def find(self, name: str) -> list[Subscribed]:
        """Find the subscriptions to each pattern that covers a name."""
        if self._root.is_empty:
            return []
        found: list[Subscribed] = []
        nodes = [self._root]
        for segment in name.split("."):
            found += [node.rest for node in nodes if node.rest]
            nodes = [child for node in nodes for child in _following(node, segment)]
        return found + [node.exact for node in nodes if node.exact]


def _following(node: Node, segment: str) -> list[Node]:
    return [node.children[key] for key in (segment, ONE_SEGMENT) if key in node.children]
