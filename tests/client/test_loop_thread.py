"""A loop in a thread: results, errors, interrupts and the end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from pubsub.client.loop_thread import LoopThread
from tests.harness import PATIENCE


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread("test")
    yield made
    made.close()


async def test_a_coroutine_runs_beside_the_callers_loop(thread: LoopThread) -> None:
    async def running_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert thread.call(running_loop()) is thread.loop is not asyncio.get_running_loop()


def test_an_error_comes_back(thread: LoopThread) -> None:
    async def fail() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        thread.call(fail())


def test_an_interrupt_cancels_the_coroutine(thread: LoopThread) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        thread.call(wait())
    assert cancelled.wait(PATIENCE)


def test_closing_cancels_what_runs_and_is_allowed_twice() -> None:
    thread = LoopThread("test")
    ended: list[bool] = []

    async def stay() -> None:
        try:
            await asyncio.sleep(PATIENCE)
        finally:
            ended.append(True)

    async def begin() -> asyncio.Task[None]:
        task = asyncio.create_task(stay())
        await asyncio.sleep(0)
        return task

    thread.call(begin())
    thread.close()
    thread.close()
    assert ended == [True]
    with pytest.raises(RuntimeError, match="closed already"):
        thread.call(stay())
