"""The console's subscriptions and the position reached in each, over all its connections. It must never send."""

from msgspec.structs import replace

from pubsub.client.replies import Ack, Event, Info, Reply
from pubsub.client.requests import Position


class Subscriptions:
    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self.missing: set[str] = set()
        """The topics that the present connection has not subscribed to yet."""

    def position(self, topic: str) -> Position | None:
        """Return the last message that came of the topic, as a place to resume; None without a subscription."""
        return self._positions.get(topic)

    def begin(self, topic: str, ack: Ack) -> None:
        """Note a new subscription. After a resume the missed messages come now, and move the position."""
        seen = self._positions.get(topic)
        if ack.recovered is None or seen is None:
            self._positions[topic] = Position(ack.epoch, ack.seq)
        elif seen.epoch != ack.epoch:
            self._positions[topic] = Position(ack.epoch, 0)
        self.missing.discard(topic)

    def end(self, topic: str) -> None:
        self._positions.pop(topic, None)
        self.missing.discard(topic)

    def disconnect(self) -> None:
        """Note that the connection ended, and every subscription with it."""
        self.missing = set(self._positions)

    def note(self, reply: Reply) -> None:
        """Move the position of a topic with each message of it."""
        match reply:
            case Event(topic=topic, seq=seq) | Info(msg="dropped", topic=topic, to_seq=seq):
                if topic in self._positions:
                    self._positions[topic] = replace(self._positions[topic], seq=seq)
            case Info(msg="topic_deleted", topic=topic):
                self.end(topic)

    def describe_resume(self, topic: str, ack: Ack) -> str:
        """Say whether messages are missing, before the subscription begins that ``ack`` acknowledges."""
        seen = self._positions.get(topic, Position("", 0))
        if ack.recovered:
            return "no message is missing"
        if ack.recovered is None:
            return "messages may be missing"
        if ack.epoch != seen.epoch or ack.seq < seen.seq:
            return "it was created again; its messages follow"
        return "some messages are no longer kept"
