"""Copies topics from one journal to another, and compares both sides before anybody sees a copy.

It must never change a topic that is there, nor leave a part of one. An interrupted copy has whole topics and nothing of
the others; the next one finds the whole ones equal, and goes on with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from pubsub.core.journal import JournalError
from pubsub.journals.transfer.moved import Contents, Digest, MovedTopic, Side
from pubsub.protocol.patterns import covers

TOPICS_AT_ONCE: Final = 50
MESSAGES_AT_ONCE: Final = 1000
"""Topics that are copied together, and their messages: they share round trips to Redis, and a commit on disk."""


class Copied(Struct):
    """The outcome. ``topics``: names of those that were copied. ``equal``: of those that were there already."""

    topics: int = 0
    equal: int = 0
    events: int = 0
    ids: int = 0

    def note(self, topic: MovedTopic, digest: Digest | None) -> str:
        """Count a topic; return the line about it. ``digest``: None if it was there already."""
        if digest is None:
            self.equal += 1
            return f"{topic.name}: is there already, and equal"
        self.topics += 1
        self.events += digest.events
        self.ids += digest.ids
        return f"{topic.name}: {digest.events} messages, {digest.ids} ids, equal on both sides (sha256 {digest!s:.16})"


async def copy_topics(
    source: Side, target: Side, patterns: Sequence[str], now: float, tell: Callable[[str], None]
) -> Copied:
    """Copy the topics that a pattern covers; all without one. ``tell`` gets a line for each. Raises JournalError.

    ``now``: Unix time; ids whose window has ended then are left out.
    """
    await check_unused(source)
    topics = [topic for topic in await source.topics() if is_wanted(topic, patterns)]
    if target.only_durable:
        for topic in topics:
            if not topic.options.durable:
                tell(f"{topic.name}: left out, because it is not durable")
        topics = [topic for topic in topics if topic.options.durable]
    there = {topic.name: topic for topic in await target.topics()}
    check_conflicts(topics, there, target.where)
    copied = Copied()
    for some in groups_of(topics):
        tasks = [copy_or_compare(source, target, topic, now, topic.name in there) for topic in some]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        failure = next((each for each in found if isinstance(each, BaseException)), None)
        try:
            await target.save()
        except JournalError as error:
            raise failure or error from None
        for topic, outcome in zip(some, found, strict=True):
            if not isinstance(outcome, BaseException):
                tell(copied.note(topic, outcome))
        if failure is not None:
            raise failure
    await check_unused(source)
    return copied


def groups_of(topics: Sequence[MovedTopic]) -> Iterator[Sequence[MovedTopic]]:
    """Divide topics into groups that are copied together: few topics, and few messages or one topic."""
    group: list[MovedTopic] = []
    messages = 0
    for topic in topics:
        if group and (len(group) == TOPICS_AT_ONCE or messages + topic.kept > MESSAGES_AT_ONCE):
            yield group
            group, messages = [], 0
        group.append(topic)
        messages += topic.kept
    if group:
        yield group


def is_wanted(topic: MovedTopic, patterns: Sequence[str]) -> bool:
    return not patterns or any(covers(pattern, topic.name) for pattern in patterns)


async def check_unused(source: Side) -> None:
    """A source that changes would give a copy without its last messages, whose numbers others get then."""
    if count := await source.users():
        raise JournalError(f"{source.where}: expected a journal that no server uses, got one with {count}")


def check_conflicts(topics: Sequence[MovedTopic], there: dict[str, MovedTopic], where: str) -> None:
    for topic in topics:
        found = there.get(topic.name)
        if found is not None and (found.epoch, found.seq) != (topic.epoch, topic.seq):
            raise JournalError(
                f"{where}: has another topic {topic.name!r} (epoch {found.epoch}, seq {found.seq}, expected "
                f"{topic.epoch} and {topic.seq}); --topics chooses those to copy. Nothing was copied"
            )


async def copy_or_compare(source: Side, target: Side, topic: MovedTopic, now: float, is_there: bool) -> Digest | None:
    """Copy one topic; return its digest, or None if it is there already, and equal."""
    if not is_there:
        return await copy(source, target, topic, now)
    if await digest_of(source.contents(topic), now) != await digest_of(target.contents(topic), now):
        raise JournalError(
            f"{target.where}: topic {topic.name!r} has the same epoch and seq, and other messages or ids"
        )
    return None


async def copy(source: Side, target: Side, topic: MovedTopic, now: float) -> Digest:
    """Copy one topic; return its digest, which is that of both sides."""
    draft = await target.begin(topic)
    contents = source.contents(topic)
    digest = Digest()
    async for events in contents.events():
        digest.add_events(events)
        await draft.add_events(events)
    if digest.events != topic.kept:
        raise JournalError(f"{source.where}: topic {topic.name!r}: expected {topic.kept} messages, got {digest.events}")
    async for ids in contents.ids(now):
        digest.add_ids(ids)
        await draft.add_ids(ids)
    if digest != await digest_of(draft, now):
        raise JournalError(f"{target.where}: topic {topic.name!r}: what was written is not what is there; not copied")
    await draft.finish()
    return digest


async def digest_of(contents: Contents, now: float) -> Digest:
    digest = Digest()
    async for events in contents.events():
        digest.add_events(events)
    async for ids in contents.ids(now):
        digest.add_ids(ids)
    return digest
