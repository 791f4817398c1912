"""What the console is subscribed to and how far it has read, over all its connections. It sends nothing."""

from dataclasses import dataclass, replace

from pubsub.console.replies import Ack, Event, Info, Reply


@dataclass(frozen=True, slots=True)
class Position:
    """The last message that came of one life of a topic: where to resume."""

    epoch: str
    seq: int


class Subscriptions:
    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self.missing: set[str] = set()
        """The topics that the present connection has not subscribed to yet."""

    def position(self, topic: str) -> Position | None:
        """How far the topic has been read, once it was subscribed to."""
        return self._positions.get(topic)

    def begin(self, topic: str, ack: Ack) -> None:
        """A subscription has begun. After a resume what was missed comes now, and moves the position."""
        seen = self._positions.get(topic)
        if ack.recovered is None or seen is None:
            self._positions[topic] = Position(ack.epoch, ack.seq)
        elif seen.epoch != ack.epoch:
            self._positions[topic] = Position(ack.epoch, 0)
        self.missing.discard(topic)

    def end(self, topic: str) -> None:
        self._positions.pop(topic, None)
        self.missing.discard(topic)

    def lose(self) -> None:
        """The connection is gone, and every subscription with it."""
        self.missing = set(self._positions)

    def note(self, reply: Reply) -> None:
        """Take from what comes how far each topic has been read."""
        match reply:
            case Event(topic=topic, seq=seq) | Info(msg="dropped", topic=topic, to_seq=seq):
                if topic in self._positions:
                    self._positions[topic] = replace(self._positions[topic], seq=seq)
            case Info(msg="topic_deleted", topic=topic):
                self.end(topic)

    def account_for(self, topic: str, ack: Ack) -> str:
        """What is to be said of what was missed, before the subscription that ``ack`` begins."""
        seen = self._positions.get(topic, Position("", 0))
        if ack.recovered:
            return "no message is missing"
        if ack.recovered is None:
            return "messages may be missing"
        if ack.epoch != seen.epoch or ack.seq < seen.seq:
            return "it was made anew; what it keeps follows"
        return "some messages are no longer kept"
