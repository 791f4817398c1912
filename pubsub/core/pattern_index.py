"""The patterns of all subscribers as a tree of segments: a name finds its patterns without a scan. No I/O.

A publish never comes here. Only a topic that appears, and a subscriber whose subscriptions change. Segments that belong
to one pattern alone are one node: a tree with a node for each takes 47 KiB for a pattern of 127 segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

from pubsub.protocol.patterns import ONE_SEGMENT, REST

if TYPE_CHECKING:
    from pubsub.core.lane import Subscriber
    from pubsub.core.subscription import Subscription

Subscribed = dict["Subscriber", "Subscription"]


class Node:
    """Some segments of patterns, ``label``. ``children`` are found by their first segment.

    ``exact``: subscribers of the pattern that ends here; ``rest``: of the one with ``>`` behind it.
    """

    __slots__ = ("children", "exact", "label", "rest")

    def __init__(self, label: str) -> None:
        self.label = label
        self.children: dict[str, Node] | None = None
        self.exact: Subscribed | None = None
        self.rest: Subscribed | None = None

    @property
    def is_subscribed(self) -> bool:
        return bool(self.exact or self.rest)

    def subscribed(self, *, has_rest: bool) -> Subscribed:
        """The subscribers of the pattern that ends here, or of the one with ``>`` behind it."""
        if has_rest:
            self.rest = {} if self.rest is None else self.rest
            return self.rest
        self.exact = {} if self.exact is None else self.exact
        return self.exact

    def add_child(self, child: Node) -> None:
        if self.children is None:
            self.children = {}
        self.children[child.label.partition(".")[0]] = child

    def split(self, count: int) -> Node:
        """A node with the first ``count`` segments, whose only child is this one with the others."""
        segments = self.label.split(".")
        upper = Node(".".join(segments[:count]))
        self.label = ".".join(segments[count:])
        upper.add_child(self)
        return upper

    def following(self, segment: str) -> Iterator[Node]:
        """The children whose first segment covers ``segment``."""
        if self.children is not None:
            for key in (segment, ONE_SEGMENT):
                if key in self.children:
                    yield self.children[key]


class PatternIndex:
    """See the module."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = Node("")

    @property
    def is_empty(self) -> bool:
        return not (self._root.children or self._root.is_subscribed)

    def add(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """Add a subscription to a pattern; it replaces the one of the same subscriber to the same pattern."""
        segments, has_rest = _parts(subscription.name)
        node = self._root
        while segments:
            child = node.children.get(segments[0]) if node.children is not None else None
            if child is None:
                child, count = Node(".".join(segments)), len(segments)
            else:
                label = child.label.split(".")
                count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(label, segments, strict=False)))
                if count < len(label):
                    child = child.split(count)
            node.add_child(child)
            node, segments = child, segments[count:]
        node.subscribed(has_rest=has_rest)[subscriber] = subscription

    def remove(self, subscriber: Subscriber, pattern: str) -> None:
        """Remove a subscription, and the nodes that no other pattern needs."""
        segments, has_rest = _parts(pattern)
        path = [self._root]
        while segments:
            children = path[-1].children
            assert children is not None, "the pattern was added"
            path.append(children[segments[0]])
            segments = segments[path[-1].label.count(".") + 1 :]
        subscribed = path[-1].subscribed(has_rest=has_rest)
        del subscribed[subscriber]
        if not subscribed and len(path) > 1:
            _tidy(path)

    def find(self, name: str) -> list[Subscribed]:
        """Find the subscriptions to each pattern that covers a name."""
        if self.is_empty:
            return []
        found: list[Subscribed] = []
        segments = name.split(".")
        reached = [(self._root, 0)]
        while reached:
            node, done = reached.pop()
            if done == len(segments):
                if node.exact:
                    found.append(node.exact)
                continue
            if node.rest:
                found.append(node.rest)
            for child in node.following(segments[done]):
                if (count := _covered(child.label, segments, done)) is not None:
                    reached.append((child, done + count))
        return found


def _parts(pattern: str) -> tuple[list[str], bool]:
    """The segments of a pattern without ``>``, and True if it ends with that."""
    segments = pattern.split(".")
    if segments[-1] == REST:
        return segments[:-1], True
    return segments, False


def _covered(label: str, segments: list[str], start: int) -> int | None:
    """The number of segments after ``start`` that a label covers; None if it does not."""
    wanted = label.split(".")
    if len(wanted) > len(segments) - start:
        return None
    for number, each in enumerate(wanted, start):
        if each not in (ONE_SEGMENT, segments[number]):
            return None
    return len(wanted)


def _tidy(path: list[Node]) -> None:
    """Remove the last node of a path, or join it to its only child, if it has no subscriber; then the one above it."""
    node, parent = path.pop(), path[-1]
    if node.is_subscribed or (node.children is not None and len(node.children) > 1):
        return
    assert parent.children is not None, "it has the node"
    if node.children:
        (child,) = node.children.values()
        child.label = f"{node.label}.{child.label}"
        parent.add_child(child)
        return
    del parent.children[node.label.partition(".")[0]]
    if len(path) > 1:
        _tidy(path)
