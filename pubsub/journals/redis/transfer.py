"""The journal in Redis as a side of a copy: reads topics, and writes new ones that nobody sees before they are whole.

Times are those of Redis' clock there, and of this machine's clock in a copy: a time to live goes on where it was.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from math import inf
from typing import Any, Final, Self

from pubsub.core.journal import JournalError
from pubsub.journals.redis.address import Address
from pubsub.journals.redis.checks import explain_refusal
from pubsub.journals.redis.connection import Connection, Lost, Refused
from pubsub.journals.redis.instance import Instance
from pubsub.journals.redis.moments import Moments
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import Blob, Entry, Generation, decode_entry, encode, encode_options
from pubsub.journals.transfer.moved import MovedEvent, MovedId, MovedTopic

TOPICS_AT_ONCE: Final = 1000
MESSAGES_AT_ONCE: Final = 200
BYTES_AT_ONCE: Final = 2**20
"""Messages of one command, and their bytes; the last one may exceed them."""
IDS_AT_ONCE: Final = 1000

_pack_id = struct.Struct(">dd").pack
_unpack_end = struct.Struct(">d").unpack_from
_unpack_id = struct.Struct(">dd").unpack


def seconds_ahead(asked_at: float, time_there: float, answered_at: float) -> int:
    """Whole seconds by which this clock is ahead. 0 if both may be equal, however long the answer took."""
    if asked_at - 0.5 <= time_there <= answered_at + 0.5:
        return 0
    return round((asked_at + answered_at) / 2 - time_there)


class RedisSide:
    """See the module. Made by :meth:`open`."""

    only_durable = False

    def __init__(self, connection: Connection, instance: Instance, scripts: Scripts, prefix: str, server: str) -> None:
        self.where = instance.where
        self.connection = connection
        self.prefix = prefix
        self.transfer = scripts.transfer
        self._server = server
        self._generation = Generation("", "")
        self.ahead = 0
        """Whole seconds by which this machine's clock is ahead of that of Redis: two copies must see the same."""

    @classmethod
    async def open(cls, address: Address, *, writes: bool) -> Self:
        """Connect, and enter as a server does: what a restart of Redis renews is renewed. Raises JournalError."""
        scripts = Scripts(address.prefix)
        server = f"copy-{secrets.token_hex(8)}"
        instance = Instance(address, scripts, server)
        with explained(instance.where):
            try:
                connection, info = await instance.connect(lambda channel, message: None, lambda reason: None)
            finally:
                instance.close()
            side = cls(connection, instance, scripts, address.prefix, server)
            try:
                if not writes and not await side.ask("EXISTS", f"{address.prefix}:meta"):
                    raise JournalError(f"{instance.where}: there is no journal with the prefix {address.prefix!r}")
                await connection.ask_encoded(scripts.transfer.load)
                asked_at = time.time()
                entry = await instance.enter(connection, info, seen=-1)
                side._generation, side.ahead = entry.generation, seconds_ahead(asked_at, entry.time, time.time())
            except BaseException:
                connection.close("it was not needed")
                raise
        return side

    async def ask(self, *arguments: str | bytes | int) -> Any:
        """Ask Redis. Raises JournalError."""
        with explained(self.where):
            return await self.connection.ask(*arguments)

    async def move(self, step: str, name: str, *arguments: str | bytes | int) -> None:
        """Do a step of transfer.lua. Raises JournalError."""
        with explained(self.where, topic=name):
            await self.connection.ask_encoded(self.transfer.run(step, name, *arguments))

    async def topics(self) -> Sequence[MovedTopic]:
        found: dict[str, MovedTopic] = {}  # HSCAN may give a field twice
        cursor = b"0"
        while True:
            cursor, fields = await self.ask("HSCAN", f"{self.prefix}:topics", cursor, "COUNT", TOPICS_AT_ONCE)
            for name, packed in zip(fields[::2], fields[1::2], strict=True):
                topic = self._moved(name, packed)
                found[topic.name] = topic
            if cursor == b"0":
                return [found[name] for name in sorted(found)]

    def _moved(self, name: bytes, packed: bytes) -> MovedTopic:
        state = self._generation.state_of(name, packed)
        first = max(state.first, state.seq - (state.options.history or 0) + 1)  # those before may be there, and unseen
        return MovedTopic(state.name, state.epoch, state.options, state.seq, first, state.size)

    def contents(self, topic: MovedTopic) -> RedisContents:
        return RedisContents(self, topic)

    async def begin(self, topic: MovedTopic) -> RedisDraft:
        await self.move("begin", topic.name)
        return RedisDraft(self, topic)

    async def save(self) -> None:
        """Redis has it all already."""

    async def users(self) -> int:
        _, count = await self.ask("PUBSUB", "NUMSUB", f"{self.prefix}:records")
        return int(count)

    async def close(self) -> None:
        with contextlib.suppress(JournalError):
            await self.ask("UNLINK", f"{self.prefix}:s:{self._server}")
        self.connection.close("it is not needed any more")


class RedisContents:
    """The messages and ids of a topic, which need not be one yet."""

    def __init__(self, side: RedisSide, topic: MovedTopic) -> None:
        self._side = side
        self._topic = topic
        self._ttl = topic.options.ttl_sec or 0.0

    def _key(self, kind: str) -> str:
        return f"{self._side.prefix}:{kind}:{self._topic.name}"

    async def events(self) -> AsyncIterator[Sequence[MovedEvent]]:
        """Yield all messages, also those that have expired."""
        topic = self._topic
        after, count = topic.first - 1, 1000 if topic.size <= BYTES_AT_ONCE else 1
        while after < topic.seq:
            found = await self._side.ask("XRANGE", self._key("m"), f"({after}-0", "+", "COUNT", count)
            if not found:
                return
            yield [self._moved(key, value) for key, (_, value) in found]
            after = int(found[-1][0].partition(b"-")[0])
            size = sum(len(value) for _, (_, value) in found)
            count = max(1, min(1000, BYTES_AT_ONCE * len(found) // (size + 1)))  # as many as the last page lets expect

    def _moved(self, key: bytes, value: bytes) -> MovedEvent:
        entry = decode_entry(value)
        blob, lifetime = entry.message, entry.lifetime or self._ttl or inf
        seq = int(key.partition(b"-")[0])
        expires = round(entry.at + lifetime + self._side.ahead, 3)
        return MovedEvent(seq, blob.id, blob.payload, entry.ts, blob.sender, expires)

    async def ids(self, now: float) -> AsyncIterator[Sequence[MovedId]]:
        start, more = 0, self._topic.options.dedup_sec is not None
        while more:
            order = await self._side.ask("LRANGE", self._key("o"), start, start + IDS_AT_ONCE - 1)
            more = len(order) == IDS_AT_ONCE
            if not order:
                return
            known = await self._side.ask("HMGET", self._key("i"), *[each[8:] for each in order])
            yield [
                MovedId(each[8:].decode(), int(_unpack_id(packed)[1]), end + self._side.ahead)
                for each, packed in zip(order, known, strict=True)
                if packed and (end := _unpack_end(each)[0]) + self._side.ahead > now and _unpack_id(packed)[0] == end
            ]
            start += IDS_AT_ONCE


class RedisDraft(RedisContents):
    """A topic that the hash of topics does not have yet. Its keys are those that the creation of a topic empties."""

    def __init__(self, side: RedisSide, topic: MovedTopic) -> None:
        super().__init__(side, topic)
        self._moments = Moments(self._ttl)
        self._total = 0
        self._ids = 0

    async def add_events(self, events: Sequence[MovedEvent]) -> None:
        arguments: list[str | bytes | int] = []
        size = 0
        for event in events:
            moment = self._moments.of(event.ts, event.expires - self._side.ahead)
            blob = Blob(event.id, event.payload, moment.lifetime, event.sender)
            self._total += len(encode(blob))
            value = encode(Entry(self._total, moment.at, moment.lifetime, event.ts, blob))
            arguments += (event.seq, value, moment.end if moment.is_odd else "")
            size += len(value)
            if size >= BYTES_AT_ONCE or len(arguments) >= 3 * MESSAGES_AT_ONCE:
                await self._side.move("messages", self._topic.name, *arguments)
                arguments, size = [], 0
        if arguments:
            await self._side.move("messages", self._topic.name, *arguments)

    async def add_ids(self, ids: Sequence[MovedId]) -> None:
        self._ids += len(ids)
        for start in range(0, len(ids), IDS_AT_ONCE):
            arguments: list[str | bytes | int] = []
            for each in ids[start : start + IDS_AT_ONCE]:
                arguments += (each.id, _pack_id(each.end - self._side.ahead, each.seq))
            await self._side.move("ids", self._topic.name, *arguments)

    async def finish(self) -> None:
        topic, options = self._topic, self._topic.options
        numbers = (options.history or 0, options.ttl_sec or 0, options.dedup_sec or 0, self._ids)
        text = encode_options(options)
        extent = (topic.seq, topic.first, self._total)
        await self._side.move("finish", topic.name, topic.epoch, *extent, text, *map(repr, numbers))


@contextlib.contextmanager
def explained(where: str, topic: str = "") -> Iterator[None]:
    """Raise JournalError for what Redis refuses, and for a lost connection."""
    about = f"{where}: topic {topic!r}" if topic else where
    try:
        yield
    except Refused as refused:
        raise explain_refusal(str(refused), where, part="") or JournalError(f"{about}: {refused}") from None
    except Lost as lost:
        raise JournalError(f"{about}: {lost}") from None
