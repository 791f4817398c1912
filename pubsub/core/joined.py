"""A subscription that begins: the topics that it reaches, and the pattern whose topics are being entered. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import UNSET, Struct, UnsetType

if TYPE_CHECKING:
    from pubsub.core.catchup import CatchUp
    from pubsub.core.subscription import Asked
    from pubsub.core.topic import Topic


class Joined(Struct):
    """A topic that a subscription reaches. ``seq``: the subscriber gets later events live, or by its ``catch_up``."""

    topic: Topic
    seq: int
    catch_up: CatchUp | None

    @property
    def recovered(self) -> bool | UnsetType:
        return UNSET if self.catch_up is None else self.catch_up.recovered


class Beginning(Protocol):
    """A subscription to a pattern whose topics are being entered."""

    asked: Asked

    def add_topic(self, topic: Topic) -> None:
        """Enter a topic that has just appeared too."""
        ...
