"""What the console is subscribed to and how far it has read, over all its connections. It sends nothing."""

from dataclasses import dataclass, replace

from pubsub.console.replies import Ack, Event, Info, Reply


@dataclass(frozen=True, slots=True)
class Position:
    """The last message that came of one life of a topic; what a resume will need."""

    epoch: str
    seq: int


class Subscriptions:
    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self.missing: set[str] = set()
        """The topics that the present connection has not subscribed to yet."""

    def begin(self, topic: str, ack: Ack) -> None:
        self._positions[topic] = Position(ack.epoch, ack.seq)
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
        """What was missed between the last message that came and the subscription that ``ack`` begins."""
        seen = self._positions.get(topic, Position("", 0))
        if not ack.epoch or ack.epoch != seen.epoch or ack.seq < seen.seq:
            return "messages may be missing"
        missed = ack.seq - seen.seq
        if not missed:
            return "no message is missing"
        return f"missing are #{seen.seq + 1} to #{ack.seq}: 'history {topic} {missed}' shows what is still kept"
