"""Good clients that choose what they get: by patterns and filters, more than one of them reaching the same topics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kinds import FILTERS
from members import Member, Place, new_member
from oracle import Json, Progress, Rights

from pubsub.protocol.patterns import covers

ALL, SOME, NONE, TWO = FILTERS

# The subscriptions of each watcher: a name or pattern, and the fields of its filter.
WATCHERS: dict[str, list[tuple[str, Json]]] = {
    "all": [("plain.*", ALL), ("room.*", ALL)],
    "some": [("plain.>", SOME), ("durable.>", NONE)],
    "overlapping": [("plain.0", NONE), ("plain.*", TWO), ("*.0", SOME), ("durable.1", ALL)],
    "durable": [("durable.*", ALL)],
    "rooms": [("room.>", SOME), ("*.1", TWO)],
    "guarded": [("plain.*", ALL), ("room.*", SOME), ("durable.*", TWO)],
    "part": [("*.0", ALL), ("room.>", ALL)],
}
RIGHTS = {
    "guarded": Rights((">",), (("plain.*", "payload.kind != 1"), ("room.*", "payload.kind < 2"))),
    "part": Rights(("plain.*", "room.1")),
}
EVERYTHING = Rights()


def rights_of(client_id: str) -> Rights:
    """Return the rights that the token of a client has."""
    return RIGHTS.get(client_id.removeprefix("watcher-"), EVERYTHING)


@dataclass
class Watcher:
    """A client that subscribes again after each end of its connection, from its positions in all topics."""

    name: str
    subscriptions: list[tuple[str, Json]]
    member: Member | None = None

    async def join(self, place: Place) -> None:
        before = {} if self.member is None else self.member.ledger.topics
        member = new_member(place, self.name)
        await member.join()
        positions = {topic: {"epoch": each.epoch, "seq": each.next_seq - 1} for topic, each in before.items()}
        for name, wanted in self.subscriptions:
            resume = {topic: position for topic, position in positions.items() if covers(name, topic)}
            options = {"resume": resume} if resume and place.resumes else {}
            member.request("subscribe", topic=name, **wanted, **options)
            await member.answered()
        if place.resumes:
            self._check(before, member)
        self.member = member

    def _check(self, before: Mapping[str, Progress], member: Member) -> None:
        """Check that everything was recovered in topics that are the same as before."""
        for topic, now in member.ledger.topics.items():
            old = before.get(topic)
            if old is not None and now.epoch == old.epoch and not now.recovered:
                member.place.findings.broken.append(f"{self.name}: {topic} of {old} is now {now}")
            if old is not None and topic.startswith("durable.") and now.epoch != old.epoch:
                member.place.findings.broken.append(f"{self.name}: {topic} of {old} is now {now}")

    def watches(self, topic: str) -> bool:
        """Return True if a subscription reaches the topic, and the rights cover it."""
        assert self.member is not None
        rights = self.member.place.rights(self.name)
        return rights.cover(topic) and any(covers(name, topic) for name, _ in self.subscriptions)

    def is_complete(self, topics: Collection[str]) -> bool:
        """True if it has all that it wants of what any client has seen. ``topics``: those that exist for certain."""
        assert self.member is not None
        ledger = self.member.ledger
        watched = {topic for topic in topics if self.watches(topic)}
        return watched <= ledger.topics.keys() and all(map(ledger.is_complete, ledger.topics))
