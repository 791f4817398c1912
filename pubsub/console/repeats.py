"""Events that come again: each subscription is resumed, and those of two that cover a topic replay the same events."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Resumed:
    """A topic that is being resumed: the events that came since, and the last one that a replay may have."""

    up_to: int
    came: set[int] = field(default_factory=set)


class Repeats:
    def __init__(self) -> None:
        self._topics: dict[str, Resumed] = {}

    def expect(self, topic: str, *, up_to: int) -> None:
        """Expect events of a topic twice, up to this ``seq``."""
        resumed = self._topics.setdefault(topic, Resumed(up_to))
        resumed.up_to = up_to

    def is_new(self, topic: str, seq: int, *, complete: bool) -> bool:
        """Return False for an event that came before. ``complete``: all subscriptions to the topic are resumed."""
        resumed = self._topics.get(topic)
        if resumed is None:
            return True
        if complete and seq > resumed.up_to:
            del self._topics[topic]
            return True
        if seq in resumed.came:
            return False
        resumed.came.add(seq)
        return True

    def forget(self, topic: str) -> None:
        """Forget a topic that has ended."""
        self._topics.pop(topic, None)

    def forget_all(self) -> None:
        """Expect no event twice any more, as when older ones are asked for."""
        self._topics.clear()
