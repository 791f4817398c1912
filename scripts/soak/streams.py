"""Good clients of Server-Sent Events: each reads one topic, and resumes with the id of its last event."""

from __future__ import annotations

import asyncio
import json

import msgspec
from kinds import FILTERS, predicate_of
from members import Place
from oracle import Broken, Claim, Json, Ledger, Progress

from pubsub.bench.event_stream import EventStream
from pubsub.client.credentials import Credentials

_END = b"\n\n"
_decode = msgspec.json.Decoder().decode

# The topic and the filter of each stream.
STREAMS: dict[str, tuple[str, Json]] = {
    "plain": ("plain.0", FILTERS[0]),
    "some": ("plain.1", FILTERS[1]),
    "durable": ("durable.0", FILTERS[0]),
    "two": ("durable.1", FILTERS[3]),
}


class StreamMember(EventStream):
    """One connection. ``last_id`` is that of the last event or heartbeat, which a browser would send back."""

    def __init__(self, place: Place, name: str, topic: str, wanted: Json, last_id: str) -> None:
        super().__init__()
        self.place = place
        self.name = name
        self.topic = topic
        self.last_id = last_id
        self.ledger = Ledger(place.record, rights=place.rights(name))
        self.ended = asyncio.Event()
        self._wants = predicate_of(wanted)
        self._options = {name: each if isinstance(each, str) else json.dumps(each) for name, each in wanted.items()}
        if last_id:
            epoch, seq = last_id.split(":")
            self._begin(epoch, int(seq) + 1)

    async def join(self) -> None:
        query = {"client_id": self.name, **self._options}
        if token := self.place.token(self.name):
            query["token"] = token
        if self.last_id:
            query["last_event_id"] = self.last_id
        await self.open(self.place.url.with_path(f"/topics/{self.topic}/events").with_query(query), Credentials())

    def _begin(self, epoch: str, seq: int) -> None:
        """The topic has this epoch; the first event has this ``seq`` or a later one."""
        claims = {self.topic: Claim(self._wants, seq)}
        self.ledger.topics[self.topic] = Progress(epoch, seq, claims=claims)
        self.ledger.subscriptions[self.topic] = self._wants

    def take_one(self, received: bytes, position: int) -> int:
        end = received.find(_END, position)
        if end < 0:
            return position
        fields = dict(line.split(b": ", 1) for line in received[position:end].split(b"\n") if b": " in line)
        try:
            self._take_fields({name.decode(): value for name, value in fields.items()})
        except Broken as broken:
            self.place.findings.broken.append(f"{self.name}: {broken}")
        return end + len(_END)

    def _take_fields(self, fields: dict[str, bytes]) -> None:
        message = _decode(fields["data"]) if "data" in fields else {}
        if "id" in fields:
            self.last_id = fields["id"].decode()
        if message.get("type") == "event":
            self._take_event(message)
        elif message.get("msg") in ("dropped", "topic_deleted"):
            self.ledger.take(message)

    def _take_event(self, event: Json) -> None:
        epoch = self.last_id.partition(":")[0]
        progress = self.ledger.topics.get(self.topic)
        if progress is None or progress.epoch != epoch:
            if progress is not None and self.topic.startswith("durable."):
                raise Broken(f"{self.topic} was {progress}, got {self.last_id}")
            self._begin(epoch, event["seq"])
        self.place.findings.deliveries += 1
        self.ledger.take(event)

    def fail(self, reason: str) -> None:
        self.ended.set()

    def vanish(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self.ended.set()


class Stream:
    """A client that connects again after each end of its connection, from its last event."""

    def __init__(self, name: str, topic: str, wanted: Json) -> None:
        self.name = name
        self.topic = topic
        self._wanted = wanted
        self.member: StreamMember | None = None

    async def join(self, place: Place) -> None:
        last_id = "" if self.member is None else self.member.last_id
        member = StreamMember(place, self.name, self.topic, self._wanted, last_id)
        await member.join()
        self.member = member

    @property
    def is_complete(self) -> bool:
        """True if it has all that it wants of what any client has seen since its first event."""
        assert self.member is not None
        ledger = self.member.ledger
        return self.topic not in ledger.topics or ledger.is_complete(self.topic)
