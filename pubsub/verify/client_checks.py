"""Checks with the Python client: the order of messages under load, and a gap that is told exactly."""

from __future__ import annotations

import asyncio
from typing import Final

from pubsub.client import Client, Event, Gap, Position, Subscription
from pubsub.client.events import Item
from pubsub.verify.deployment import Deployment
from pubsub.verify.outcomes import CheckFailed

EACH: Final = 50
RECEIVE_SEC: Final = 5.0
KEPT: Final = 5
PUBLISHED: Final = 20


async def order(deployment: Deployment) -> str:
    """Publish with two clients at once, and receive with a third."""
    topic = await deployment.create_topic("order", history=2 * EACH)
    async with (
        deployment.client("order-1") as first,
        deployment.client("order-2") as second,
        deployment.client("order-3") as reader,
        reader.subscribe(topic, type=list[int]) as events,
    ):
        publishing = asyncio.gather(publish(first, topic, 1), publish(second, topic, 2))
        try:
            received = await receive(events)
        finally:
            await asyncio.wait([publishing])
        await publishing
    check_order(received)
    return f"{2 * EACH} messages of two publishers came once each, in the order of seq"


async def receive(events: Subscription[list[int]]) -> list[Item[list[int]]]:
    """Receive all messages. Raises CheckFailed if they do not come in time."""
    received: list[Item[list[int]]] = []
    try:
        async with asyncio.timeout(RECEIVE_SEC):
            while len(received) < 2 * EACH:
                received.append(await anext(events))
    except TimeoutError:
        raise CheckFailed(f"{len(received)} of {2 * EACH} messages came within {RECEIVE_SEC:g} s") from None
    return received


async def publish(client: Client, topic: str, number: int) -> None:
    await client.publish_many(topic, ([number, at] for at in range(EACH)))


def check_order(received: list[Item[list[int]]]) -> None:
    """Check that each message came once, in the order of ``seq`` and of its publisher. Raises CheckFailed."""
    events = [each for each in received if isinstance(each, Event)]
    if [each.seq for each in events] != list(range(1, 2 * EACH + 1)):
        raise CheckFailed(f"expected seq 1 to {2 * EACH} in order, got {[each.seq for each in events][:20]}…")
    for number in (1, 2):
        own = [each.payload[1] for each in events if each.payload[0] == number]
        if own != list(range(EACH)):
            raise CheckFailed(f"the messages of a publisher came in another order than it sent them: {own[:20]}…")


async def gaps(deployment: Deployment) -> str:
    """Resume from a position that the topic no longer has. The gap must be told with its bounds."""
    topic = await deployment.create_topic("gaps", history=KEPT)
    await deployment.publish(topic, list(range(1, PUBLISHED + 1)))
    async with deployment.client("gaps") as client:
        epoch = (await client.history(topic, last_n=1)).epoch
        resumed = client.subscribe(topic, resume={topic: Position(epoch, 2)})
        async with resumed as events:
            gap, *kept = [await anext(events) for _ in range(1 + KEPT)]
    lost = PUBLISHED - KEPT - 2
    if not isinstance(gap, Gap) or (gap.from_seq, gap.to_seq, gap.count) != (3, PUBLISHED - KEPT, lost):
        raise CheckFailed(f"expected a gap of {lost} messages from 3 to {PUBLISHED - KEPT}, got {gap}")
    seqs = [each.seq for each in kept if isinstance(each, Event)]
    if seqs != list(range(PUBLISHED - KEPT + 1, PUBLISHED + 1)):
        raise CheckFailed(f"after the gap expected the {KEPT} messages that are kept, got {seqs}")
    return f"{lost} messages that are no longer kept were told as one gap, the other {KEPT} came"
