"""A simulated world with clients of Server-Sent Events, which resume with the id of their last event."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from zlib import decompressobj

from kinds import FILTERS
from msgspec import UNSET, Raw
from oracle import Json, Ledger, Record, Rights

from pubsub.core.joining import Joining
from pubsub.core.subscription import Asked
from pubsub.protocol.errors import Failure, Forbidden, TopicNotFound
from pubsub.protocol.patterns import has_wildcard
from pubsub.sse.opening import Opening, Wanted
from pubsub.sse.streams import Streams
from tests.simulation import RIGHTS, Parts, Reader, Transport, World, offers_of


class StreamClient:
    """A client that reads one stream. ``last_id`` and ``positions`` are those of its last event."""

    def __init__(
        self,
        parts: Parts,
        streams: Streams,
        record: Record,
        *,
        name: str,
        rights: int | None,
        names: Sequence[str],
        chosen: Json,
        before: StreamClient | None = None,
    ) -> None:
        self.name = name
        self.rights = rights
        self.names = names
        self.chosen = chosen
        self.last_id: str = "" if before is None else before.last_id
        self.positions: dict[str, Json] = {} if before is None else dict(before.positions)
        self.ledger = Ledger(record, tolerant=True, rights=Rights() if rights is None else RIGHTS[rights])
        self.transport = Transport(parts.loop)
        self.is_closed = False
        self._loop = parts.loop
        self._unread = b""
        self._inflate: Callable[[bytes], bytes]
        self._begun = False
        self._starts = self._awaited = 0
        wanted = Wanted(
            names=names,
            last_event_id=self.last_id,
            filter=chosen.get("filter", UNSET),
            params=Raw(json.dumps(chosen["params"]).encode()) if "params" in chosen else UNSET,
        )
        identity = None if rights is None else parts.identity(name, rights)
        gzip = streams.gzip if offers_of(name) else None
        self._inflate = (lambda received: received) if gzip is None else decompressobj(-15).decompress
        self._opening = Opening(streams, self.transport, wanted, client_id=name, identity=identity, gzip=gzip)
        try:
            self._asked = deque(self._opening.requests())
        except Forbidden:
            self.close()
        else:
            self._subscribe_next()

    @property
    def may_resume(self) -> bool:
        """True if it knows all the positions behind its last id."""
        return self._starts == self._awaited

    @property
    def is_at_rest(self) -> bool:
        return (self._begun or self.is_closed) and not self.transport.get_write_buffer_size()

    # The server's side, before the stream begins

    def _subscribe_next(self) -> None:
        if self.is_closed:
            return
        if not self._asked:
            self._begin()
            return
        asked = self._asked.popleft()
        try:
            self._opening.subscribe(asked, partial(self._take_answer, asked))
        except Failure as failure:
            self._take_answer(asked, failure)

    def _take_answer(self, asked: Asked, found: Joining | Failure) -> None:
        if self.is_closed:
            return
        if isinstance(found, Failure):
            self._refuse(asked, found)
        else:
            self._opening.add(found)
        self._loop.call_soon(self._subscribe_next)

    def _refuse(self, asked: Asked, failure: Failure) -> None:
        try:
            if not isinstance(failure, TopicNotFound):
                raise failure
            self._opening.pass_over(asked, failure)
        except Failure:
            self.close()

    def _begin(self) -> None:
        try:
            list(self._opening.note_positions())
            self._opening.confirm()
        except TopicNotFound:
            self.close()
        else:
            self._awaited = len(self._opening._joinings)
            self._opening.begin(lambda: None)
            self._begun = True

    def close(self) -> None:
        """Leave, whatever the state is."""
        if self.is_closed:
            return
        self.is_closed = True
        self.ledger.topics.clear()
        self.ledger.subscriptions.clear()
        if self._begun:
            self.transport.vanish()
        else:
            self.transport.lost = self.transport.closing = True
            self._opening.abandon()

    # The client's side

    def send(self, size: int) -> None:
        """A stream is only read."""

    def take(self, size: int) -> None:
        *blocks, self._unread = (self._unread + self._inflate(self.transport.drain(size))).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
            identifier = fields.get(b"id", b"").decode()
            if b"data" in fields:
                self._take(json.loads(fields[b"data"]))
            self.last_id = identifier or self.last_id
            if identifier and ":" in identifier:
                epoch, seq = identifier.split(":")
                self.positions = {self.names[0]: {"epoch": epoch, "seq": int(seq)}}

    def _take(self, message: Json) -> None:
        if message.get("msg") in ("subscribed", "recovered"):
            self._take_start(message)
        elif message["type"] == "event":
            self.ledger.take(message)
            topic = message["topic"]
            self.positions[topic] = {"epoch": self.ledger.topics[topic].epoch, "seq": message["seq"]}
        elif message.get("msg") == "topic_deleted" and message["topic"] not in self.ledger.topics:
            assert message["topic"] in self.names, "it has ended since the client was here"
        else:
            self.ledger.take(message)

    def _take_start(self, info: Json) -> None:
        """Take the start of a subscription as the ack of a request."""
        name, self._starts = info["topic"], self._starts + 1
        entered = info["topics"] if has_wildcard(name) else {name: info}
        request: Json = {"type": "subscribe", "topic": name, "request_id": f"r{self._starts}", **self.chosen}
        if info["msg"] == "recovered":
            request["resume"] = {topic: self._position(topic, each["epoch"]) for topic, each in entered.items()}
        self.ledger.ask(request)
        self.ledger.take({**info, "type": "ack", "request_id": request["request_id"]})
        for topic in entered:
            known, progress = self.positions.get(topic), self.ledger.topics[topic]
            if known is None or known["epoch"] != progress.epoch:
                self.positions[topic] = {"epoch": progress.epoch, "seq": progress.claims[name].may_begin - 1}

    def _position(self, topic: str, epoch: str) -> Json:
        """The position from which the client resumes. A cursor knows no other life of a topic, and no new one."""
        known = self.positions.get(topic)
        return (
            known
            if known is not None and (known["epoch"] == epoch or ":" in self.last_id)
            else {"epoch": epoch, "seq": 0}
        )


class StreamWorld(World):
    """See the module. Some clients are WebSockets."""

    def __init__(self, seed: int) -> None:
        super().__init__(2 * seed + 1)
        self._streams = Streams(self.parts.services, spread=0)
        self.readers: list[StreamClient] = []
        self._steps.append((self._open_or_cut, 8))

    @property
    def everyone(self) -> Sequence[Reader]:
        return [*self.clients, *(each for each in self.readers if not each.is_closed)]

    def _open_or_cut(self) -> None:
        for each in self.readers:
            if each.transport.closing and each.is_at_rest:  # the server has ended it
                each.close()
        self.readers = [each for each in self.readers if not each.is_closed]
        match self._random.randrange(4):
            case 0 if self.readers:
                self.readers.pop(self._random.randrange(len(self.readers))).close()
            case 1 | 2 if self.readers:
                before = self.readers.pop(self._random.randrange(len(self.readers)))
                before.close()
                known = before if before.may_resume else None
                self._open(before.name, before.rights, before.names, before.chosen, known)
            case _ if len(self.readers) < 4:
                names = self._random.sample(self._names, self._random.choice([1, 1, 2, 3]))
                self._born += 1
                rights = self._random.randrange(len(RIGHTS)) if self._guarded else None
                self._open(f"client-{self._born % self.NAMES}", rights, names, self._random.choice(FILTERS), None)

    def _open(
        self, name: str, rights: int | None, names: Sequence[str], chosen: Any, before: StreamClient | None
    ) -> None:
        client = StreamClient(
            self.parts,
            self._streams,
            self.record,
            name=name,
            rights=rights,
            names=names,
            chosen=chosen,
            before=before,
        )
        self.readers.append(client)
