"""Checks of Server-Sent Events: each event must come at once, and a stream must resume by Last-Event-ID."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from pubsub.client.replies import Event, Info
from pubsub.verify import advice
from pubsub.verify.deployment import Deployment
from pubsub.verify.event_stream import EventStream, open_stream
from pubsub.verify.outcomes import CheckFailed

AT_ONCE_SEC: Final = 2.0
"""A proxy that buffers passes a small event on when its buffer is full, or the stream at its end."""


async def stream(deployment: Deployment) -> str:
    """Open a stream, publish, and wait for the event: as curl does, and as a browser does, which accepts gzip."""
    topic = await deployment.create_topic("stream")
    await follow(deployment, topic, {"Accept-Encoding": "identity"}, "without gzip")
    await follow(deployment, topic, {"Accept-Encoding": "gzip"}, "with gzip")
    return "each event came at once"


async def follow(deployment: Deployment, topic: str, fields: Mapping[str, str], how: str) -> None:
    try:
        async with asyncio.timeout(AT_ONCE_SEC) as limit, open_stream(deployment, topic, fields) as events:
            await expect_info(events, "subscribed")
            await deployment.publish(topic, [how])
            limit.reschedule(asyncio.get_running_loop().time() + AT_ONCE_SEC)
            await expect_events(events, [how])
    except TimeoutError:
        raise CheckFailed(f"{how}, nothing came within {AT_ONCE_SEC:g} s", advice.BUFFERED) from None


async def expect_info(events: EventStream, msg: str) -> None:
    message = (await events.next_message()).message
    if not isinstance(message, Info) or message.msg != msg:
        raise CheckFailed(f"expected the info {msg!r}, got {message}")


async def expect_events(events: EventStream, payloads: list[str]) -> str:
    """Receive events with these payloads; return the id of the last."""
    block = None
    for payload in payloads:
        block = await events.next_message()
        if not isinstance(block.message, Event) or bytes(block.message.message.payload) != f'"{payload}"'.encode():
            raise CheckFailed(f"expected an event with {payload!r}, got {block.message}")
    return "" if block is None else block.id


async def stream_resume(deployment: Deployment) -> str:
    """Cut a stream off, miss messages, and get exactly these by Last-Event-ID, as a browser does."""
    topic = await deployment.create_topic("stream-resume")
    async with open_stream(deployment, topic, {}) as events:
        await expect_info(events, "subscribed")
        await deployment.publish(topic, ["a"])
        last = await expect_events(events, ["a"])
    await deployment.publish(topic, ["b", "c"])
    async with open_stream(deployment, topic, {"Last-Event-ID": last}) as events:
        message = (await events.next_message()).message
        if isinstance(message, Info) and message.msg == "subscribed":
            raise CheckFailed("the server did not get the header Last-Event-ID", advice.LAST_EVENT_ID)
        if not isinstance(message, Info) or message.msg != "recovered":
            raise CheckFailed(f"expected a resume without a loss, got {message}", advice.SPREAD)
        await expect_events(events, ["b", "c"])
    return "after a cut, what was missed came once and in order"
