"""The console's subscriptions and the position reached in each topic, over all its connections. It must never send."""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from pubsub.client.replies import Ack, Event, Info, Reply
from pubsub.client.requests import MAX_POSITIONS, Position, Subscribe, covers, has_wildcard

MAX_RESUME_BYTES: Final = 500_000
"""The most that the positions of one request take: the server accepts 1 MiB. The others are replayed from the start."""
POSITION_BYTES: Final = 64  # a position in JSON, without the name of its topic
NAMED: Final = 3
"""The most topics that a remark names."""


class Subscriptions:
    def __init__(self) -> None:
        self.missing: set[str] = set()
        """The names of subscriptions that the present connection does not have yet."""
        self._asked: dict[str, Subscribe] = {}
        self._positions: dict[str, Position] = {}
        self._replaying = False

    @property
    def names(self) -> list[str]:
        return list(self._asked)

    def resume(self, name: str) -> Subscribe | None:
        """Return a request that continues a subscription where it ended; None without that subscription."""
        asked = self._asked.get(name)
        return asked and replace(asked, last_n=0, resume=limit_positions(self._positions_in(name).items()))

    def begin(self, asked: Subscribe, ack: Ack) -> None:
        """Note a new subscription. After a resume the missed messages come now, and move the positions."""
        self._asked[asked.topic] = asked
        self._replaying = self._replaying or asked.last_n > 0
        self.missing.discard(asked.topic)
        begun = positions_of(asked.topic, ack)
        for topic in self._positions_in(asked.topic):
            if topic not in begun:
                del self._positions[topic]
        for topic, position in begun.items():
            self._positions[topic] = self._start(topic, position, resumed=ack.recovered is not None)

    def _start(self, topic: str, position: Position, *, resumed: bool) -> Position:
        """Return the position before the first message that comes now.

        A position that is there stays: messages of another subscription to the topic may be on their way.
        """
        seen = self._positions.get(topic)
        if seen is not None and seen.epoch == position.epoch:
            return seen
        return Position(position.epoch, 0) if resumed else position

    def end(self, name: str) -> None:
        """Forget a subscription, and the positions that no other one needs."""
        self._asked.pop(name, None)
        self.missing.discard(name)
        for topic in self._positions_in(name):
            if not any(covers(other, topic) for other in self._asked):
                del self._positions[topic]

    def disconnect(self) -> None:
        """Note that the connection ended, and every subscription with it."""
        self.missing = set(self._asked)
        self._replaying = False

    def note(self, reply: Reply) -> bool:
        """Move the position of a topic with each message of it. False if the message came before.

        Where two subscriptions cover a topic, both are resumed, and the second one may repeat a part.
        """
        match reply:
            case Event(topic=topic, seq=seq):
                return self._move(topic, seq)
            case Info(msg="dropped", topic=topic, to_seq=seq):
                self._move(topic, seq)
            case Info(msg="topic_created", topic=topic, epoch=epoch):
                self._positions[topic] = Position(epoch, 0)
            case Info(msg="topic_deleted", topic=topic) | Info(msg="unsubscribed", topic=topic):
                self.end(topic)
                self._positions.pop(topic, None)
        return True

    def _move(self, topic: str, seq: int) -> bool:
        position = self._positions.get(topic)
        if position is None:
            return True
        if seq <= position.seq and not self._replaying:
            return False
        self._positions[topic] = replace(position, seq=seq)
        return True

    def describe_resume(self, name: str, ack: Ack) -> str:
        """Say whether messages are missing, before the subscription begins that ``ack`` acknowledges."""
        gone = sorted(self._positions_in(name).keys() - positions_of(name, ack).keys())
        return self._describe_losses(name, ack) + (f"; topics that are gone: {_name_some(gone)}" if gone else "")

    def _describe_losses(self, name: str, ack: Ack) -> str:
        if ack.recovered:
            return "no message is missing"
        if ack.recovered is None:
            return "messages may be missing"
        if not has_wildcard(name):
            return self._describe_loss(name, Position(ack.epoch, ack.seq))
        lost = {topic: Position(each.epoch, each.seq) for topic, each in ack.topics.items() if each.recovered is False}
        again = sorted(topic for topic, position in lost.items() if self._is_another(topic, position))
        parts = [(again, "created again, their messages follow"), (sorted(lost.keys() - again), "no longer complete")]
        return "; ".join(f"{text}: {_name_some(names)}" for names, text in parts if names) or "messages may be missing"

    def _describe_loss(self, topic: str, position: Position) -> str:
        if self._is_another(topic, position):
            return "it was created again; its messages follow"
        return "some messages are no longer kept"

    def _is_another(self, topic: str, position: Position) -> bool:
        """Return True if a topic is not the one of that name that was subscribed to before."""
        seen = self._positions.get(topic, Position("", 0))
        return position.epoch != seen.epoch or position.seq < seen.seq

    def _positions_in(self, name: str) -> dict[str, Position]:
        """Return the positions in the topics of a subscription."""
        if not has_wildcard(name):
            return {name: self._positions[name]} if name in self._positions else {}
        return {topic: position for topic, position in self._positions.items() if covers(name, topic)}


def _name_some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def positions_of(name: str, ack: Ack) -> Mapping[str, Position]:
    """Return the positions in an ack of a subscribe: that of its topic, or those of its pattern's topics."""
    if has_wildcard(name):
        return {topic: Position(each.epoch, each.seq) for topic, each in ack.topics.items()}
    return {name: Position(ack.epoch, ack.seq)}


def limit_positions(positions: Iterable[tuple[str, Position]]) -> dict[str, Position]:
    """Return as many of the positions as one request can have."""
    kept: dict[str, Position] = {}
    size = 0
    for topic, position in positions:
        size += len(topic) + POSITION_BYTES
        if size > MAX_RESUME_BYTES or len(kept) == MAX_POSITIONS:
            break
        kept[topic] = position
    return kept
