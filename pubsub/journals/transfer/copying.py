"""Copies topics from one journal to another, and compares both sides before anybody sees a copy.

It must never change a topic that is there, nor leave a part of one. An interrupted copy has whole topics and nothing of
the others; the next one finds the whole ones equal, and goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from pubsub.core.journal import JournalError
from pubsub.journals.transfer.moved import Contents, Digest, MovedTopic, Side
from pubsub.protocol.patterns import covers


class Copied(Struct):
    """The outcome. ``topics``: names of those that were copied. ``equal``: of those that were there already."""

    topics: int = 0
    equal: int = 0
    events: int = 0
    ids: int = 0


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
    for topic in topics:
        if topic.name in there:
            await compare(source, target, topic, now)
            tell(f"{topic.name}: is there already, and equal")
            copied.equal += 1
        else:
            digest = await copy(source, target, topic, now)
            tell(
                f"{topic.name}: {digest.events} messages, {digest.ids} ids, equal on both sides (sha256 {digest!s:.16})"
            )
            copied.topics += 1
            copied.events += digest.events
            copied.ids += digest.ids
    await check_unused(source)
    return copied


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


async def compare(source: Side, target: Side, topic: MovedTopic, now: float) -> None:
    ours = await digest_of(source.contents(topic), now)
    if ours != await digest_of(target.contents(topic), now):
        raise JournalError(
            f"{target.where}: topic {topic.name!r} has the same epoch and seq, and other messages or ids"
        )


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
