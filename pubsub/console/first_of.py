"""Tasks of which the first one to end ends the others. It must never know what they do."""

import asyncio
from collections.abc import Coroutine


async def first_of(*works: Coroutine[None, None, None]) -> None:
    """Run all until one ends, and cancel the others; raises what that one raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
