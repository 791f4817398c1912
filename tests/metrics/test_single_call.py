"""A call that does not return: nobody waits for it for long, and it uses up one thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pubsub.metrics.single_call import SingleCall


async def test_a_call_that_hangs_is_left_alone_and_asked_again_once_it_has_returned() -> None:
    release, calls = threading.Event(), list[int]()

    def hang() -> int:
        calls.append(len(calls))
        release.wait()
        return len(calls)

    call = SingleCall[int]()
    assert await asyncio.gather(*[call.ask(hang, patience=0.01) for _ in range(5)]) == [None] * 5
    assert calls == [0]
    release.set()
    assert await call.ask(hang) == 1
    assert await call.ask(hang) == 2


async def test_a_failure_is_that_of_the_one_who_asks() -> None:
    call = SingleCall[int]()
    with pytest.raises(ZeroDivisionError):
        await call.ask(lambda: 1 // 0)
    assert await call.ask(lambda: 1) == 1
