"""The console's subscriptions and the positions reached in them, over all its connections. It must never send."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from pubsub.client.replies import Ack, Event, Info, Reply
from pubsub.client.requests import MAX_POSITIONS, Position, Subscribe, covers, has_wildcard
from pubsub.console.repeats import Repeats

MAX_RESUME_BYTES: Final = 500_000
"""The most that the positions of one request take: the server accepts 1 MiB. The others are replayed from the start."""
POSITION_BYTES: Final = 64  # a position in JSON, without the name of its topic
NAMED: Final = 3
"""The most topics that a remark names."""


class Subscriptions:
    """See the module.

    Each subscription has positions of its own. A common one would be wrong: after a reconnect, the replay of one with a
    filter leaves out what another one, which is resumed later, still needs.
    """

    def __init__(self) -> None:
        self.missing: set[str] = set()
        """The names of subscriptions that the present connection does not have yet."""
        self._asked: dict[str, Subscribe] = {}
        self._positions: dict[str, dict[str, Position]] = {}  # by subscription and topic
        self._replayed: set[str] = set()  # subscriptions for which older messages were asked
        self._repeats = Repeats()

    @property
    def names(self) -> list[str]:
        return list(self._asked)

    def to_resume(self) -> list[str]:
        """Return what is missing, first those without a filter: then the others find nothing to replay out of order."""
        return sorted(self.missing, key=lambda name: (bool(self._asked[name].filter), name))

    def resume(self, name: str) -> Subscribe | None:
        """Return a request that continues a subscription where it ended; None without that subscription."""
        asked = self._asked.get(name)
        return asked and replace(asked, last_n=0, resume=limit_positions(self._positions[name].items()))

    def begin(self, asked: Subscribe, ack: Ack) -> None:
        """Note a new subscription. After a resume the missed messages come now, and move the positions."""
        name, resumed = asked.topic, ack.recovered is not None
        self._asked[name] = asked
        self.missing.discard(name)
        if asked.last_n:
            self._replayed.add(name)
            self._repeats.forget_all()
        seen, begun = self._positions.get(name, {}), positions_of(name, ack)
        self._positions[name] = {
            topic: start_of(seen.get(topic), position, resumed=resumed) for topic, position in begun.items()
        }
        for topic, position in begun.items():
            if resumed and len(list(self._covering(topic))) > 1:
                self._repeats.expect(topic, up_to=position.seq)

    def end(self, name: str) -> None:
        self._asked.pop(name, None)
        self._positions.pop(name, None)
        self.missing.discard(name)

    def disconnect(self) -> None:
        """Note that the connection ended, and every subscription with it."""
        self.missing = set(self._asked)
        self._replayed.clear()

    def note(self, reply: Reply) -> bool:
        """Move the positions with each message. False for an event that came before."""
        match reply:
            case Event(topic=topic, seq=seq):
                self._move(topic, seq)
                return self._repeats.is_new(topic, seq, complete=self.missing.isdisjoint(self._covering(topic)))
            case Info(msg="dropped", topic=topic, to_seq=seq):
                self._move(topic, seq)
            case Info(msg="topic_created", topic=topic, epoch=epoch):
                self._repeats.forget(topic)
                for name in self._present(topic):
                    self._positions[name][topic] = Position(epoch, 0)
            case Info(msg="topic_deleted", topic=topic) | Info(msg="unsubscribed", topic=topic):
                self._leave(topic)
        return True

    def _move(self, topic: str, seq: int) -> None:
        for name in self._present(topic):
            positions = self._positions[name]
            position = positions.get(topic)
            if position is not None and (seq > position.seq or name in self._replayed):
                positions[topic] = replace(position, seq=seq)

    def _leave(self, name: str) -> None:
        """Forget a topic that ended or that the server took from all subscriptions, or a pattern that it ended."""
        self.end(name)
        self._repeats.forget(name)
        for positions in self._positions.values():
            positions.pop(name, None)

    def _covering(self, topic: str) -> Iterator[str]:
        return (name for name in self._asked if covers(name, topic))

    def _present(self, topic: str) -> Iterator[str]:
        """The subscriptions that cover a topic, and that this connection has."""
        return (name for name in self._covering(topic) if name not in self.missing)

    def describe_resume(self, name: str, ack: Ack) -> str:
        """Say whether messages are missing, before the subscription begins that ``ack`` acknowledges."""
        seen, begun = self._positions.get(name, {}), positions_of(name, ack)
        gone = sorted(seen.keys() - begun.keys())
        return describe_losses(name, ack, seen) + (f"; topics that are gone: {name_some(gone)}" if gone else "")


def start_of(seen: Position | None, acked: Position, *, resumed: bool) -> Position:
    """Return the position before the first message that comes now, by the position of the ack.

    A position that is there stays: its messages may be on their way.
    """
    if seen is not None and seen.epoch == acked.epoch:
        return seen
    return Position(acked.epoch, 0) if resumed else acked


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


def describe_losses(name: str, ack: Ack, seen: Mapping[str, Position]) -> str:
    if ack.recovered:
        return "no message is missing"
    if ack.recovered is None:
        return "messages may be missing"
    if not has_wildcard(name):
        created_again = is_another(seen.get(name), Position(ack.epoch, ack.seq))
        return "it was created again; its messages follow" if created_again else "some messages are no longer kept"
    lost = {topic: Position(each.epoch, each.seq) for topic, each in ack.topics.items() if each.recovered is False}
    again = sorted(topic for topic, position in lost.items() if is_another(seen.get(topic), position))
    parts = [(again, "created again, their messages follow"), (sorted(lost.keys() - again), "no longer complete")]
    return "; ".join(f"{text}: {name_some(names)}" for names, text in parts if names) or "messages may be missing"


def is_another(seen: Position | None, now: Position) -> bool:
    """Return True if a topic is not the one of that name that was subscribed to before."""
    return seen is None or now.epoch != seen.epoch or now.seq < seen.seq


def name_some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
