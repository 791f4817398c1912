"""A journal in several instances of Redis as one side of a copy: each topic is in the one that its name decides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from pubsub.journals.redis.address import parse_address
from pubsub.journals.redis.spread import place_of
from pubsub.journals.redis.transfer import RedisContents, RedisDraft, RedisSide
from pubsub.journals.transfer.moved import MovedTopic, Side


async def open_redis(url: str, *, writes: bool) -> Side:
    """Connect to all instances of a URL. Raises JournalError."""
    address = parse_address(url)
    async with AsyncExitStack() as stack:
        parts: list[RedisSide] = []
        for each in address.parts:
            part = await RedisSide.open(each, writes=writes)
            stack.push_async_callback(part.close)
            parts.append(part)
        stack.pop_all()
        return parts[0] if len(parts) == 1 else SpreadSide(f"Redis at {address}", parts)
    raise AssertionError("an exit stack without callbacks suppresses nothing")


class SpreadSide:
    """See the module."""

    only_durable = False

    def __init__(self, where: str, parts: Sequence[RedisSide]) -> None:
        self.where = where
        self._parts = parts

    async def topics(self) -> Sequence[MovedTopic]:
        return [topic for part in self._parts for topic in await part.topics()]

    def contents(self, topic: MovedTopic) -> RedisContents:
        return self._part_of(topic).contents(topic)

    async def begin(self, topic: MovedTopic) -> RedisDraft:
        return await self._part_of(topic).begin(topic)

    def _part_of(self, topic: MovedTopic) -> RedisSide:
        return self._parts[place_of(topic.name, len(self._parts))]

    async def save(self) -> None:
        """Each instance has it all already."""

    async def users(self) -> int:
        return max([await part.users() for part in self._parts])  # each server uses all of them

    async def close(self) -> None:
        for part in self._parts:
            await part.close()
