"""The way of items from a loop to threads: order, room, limits of time, the end."""

from __future__ import annotations

import asyncio

import pytest

from pubsub.client.handover import ROOM, Closed, Handover
from tests.harness import PATIENCE


async def test_a_full_handover_waits_for_half_of_its_room() -> None:
    handover = Handover[int]()
    for number in range(ROOM - 1):
        await handover.put(number)
    putting = asyncio.create_task(handover.put(ROOM - 1))
    await asyncio.sleep(0)
    taken = await asyncio.to_thread(lambda: [handover.get() for _ in range(ROOM // 2 - 1)])
    assert not putting.done()
    taken.append(await asyncio.to_thread(handover.get))
    await asyncio.wait_for(putting, PATIENCE)
    assert taken == list(range(ROOM // 2))


async def test_a_thread_that_waits_gets_the_next_item() -> None:
    handover = Handover[int]()
    getting = asyncio.create_task(asyncio.to_thread(handover.get, PATIENCE))
    await asyncio.sleep(0)
    await handover.put(7)
    assert await getting == 7


async def test_waiting_ends_in_time() -> None:
    with pytest.raises(TimeoutError):
        Handover[int]().get(0.001)


async def test_what_is_there_comes_before_the_first_error() -> None:
    handover = Handover[int]()
    await handover.put(1)
    handover.end(ConnectionError("gone"))
    handover.end(Closed())
    assert handover.get() == 1
    for _ in range(2):
        with pytest.raises(ConnectionError):
            handover.get()


async def test_clearing_makes_room() -> None:
    handover = Handover[int]()
    for number in range(ROOM - 1):
        await handover.put(number)
    putting = asyncio.create_task(handover.put(0))
    await asyncio.sleep(0)
    handover.clear()
    await putting
    await handover.put(2)
    assert handover.get() == 2
