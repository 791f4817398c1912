"""Row 57: in each loop over many clients, a failing transport ends only its own client."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pubsub.core.clock import Clock
from pubsub.journals.operations import Mark, Result
from pubsub.journals.sqlite import CLEAN_UP_PERIOD, SqliteJournal
from pubsub.protocol.frames import FIN, PING, TEXT
from pubsub.system.cores import SharedCore
from pubsub.websocket.ending import Ending
from pubsub.websocket.timers import STALL_TICKS
from tests.harness import masked_frame
from tests.simulation import Frames, Parts, Transport

OTHERS = 4


class Fault(Exception):
    """An exception that no server expects of a transport."""


class Crowd:
    """Some clients; the transport of the middle one fails after :meth:`begin_to_fail`."""

    def __init__(self) -> None:
        self.parts = Parts(Random(0))
        self.transports = [self.parts.connect("one") for _ in range(OTHERS + 1)]
        self.faulty = self.transports[OTHERS // 2]
        self.others = [transport for transport in self.transports if transport is not self.faulty]

    def begin_to_fail(self) -> None:
        for name in ("write", "get_extra_info", "get_write_buffer_size", "pause_reading", "resume_reading"):
            setattr(self.faulty, name, fail)

    def messages(self, transport: Transport) -> list[Any]:
        return Frames().feed(transport.drain(1 << 20))


def beat(crowd: Crowd) -> list[bool]:
    for _ in range(400):
        crowd.parts.loop.pass_time(0.1)
        crowd.parts.loop.run_out()
    return [FIN | PING in crowd.messages(transport) for transport in crowd.others]


def end_late_messages(crowd: Crowd) -> list[bool]:
    for transport in crowd.transports:
        assert transport.connection is not None
        transport.connection.data_received(masked_frame(FIN | TEXT, b"{}")[:3])
    for _ in range(20):
        crowd.parts.loop.pass_time(100)
        crowd.parts.loop.run_out()
    return [0x88 in crowd.messages(transport) or transport.lost for transport in crowd.others]


def end_stalled(crowd: Crowd) -> list[bool]:
    for transport in crowd.transports:
        assert transport.connection is not None
        transport.connection.pause_writing()
        transport.connection.subscriber.call_when_ready(lambda: None)
    crowd.begin_to_fail()
    for _ in range(STALL_TICKS):  # before a silent client is closed
        crowd.parts.services.timers._end_slow_consumers(now=2000)
    crowd.parts.loop.run_out()
    return [
        (end := transport.connection._end) is not None and end.kind is Ending.SLOW_CONSUMER
        for transport in crowd.others
        if transport.connection
    ]


async def test_row_57_at_a_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd()
    crowd.begin_to_fail()
    await crowd.parts.services.connections.close_all(within=0, spread=0)
    crowd.parts.loop.run_out()
    assert all(transport.lost for transport in crowd.transports)
    assert len(crowd.parts.services.connections) == 0
    assert "Internal error at client one" in caplog.text


async def test_row_57_when_a_client_is_disconnected(caplog: pytest.LogCaptureFixture) -> None:
    crowd = Crowd()
    crowd.begin_to_fail()
    assert await crowd.parts.services.connections.disconnect("one") == OTHERS + 1
    crowd.parts.loop.run_out()
    assert all(0x88 in crowd.messages(transport) for transport in crowd.others)
    assert crowd.faulty.lost
    assert "Internal error at client one" in caplog.text


@pytest.mark.parametrize("loop_over_many", [beat, end_late_messages, end_stalled])
def test_row_57_in_the_timer_of_all_connections(
    loop_over_many: Callable[[Crowd], list[bool]], caplog: pytest.LogCaptureFixture
) -> None:
    crowd = Crowd()
    if loop_over_many is not end_stalled:
        crowd.begin_to_fail()
    assert all(loop_over_many(crowd))
    assert crowd.faulty.lost
    assert "Internal error at client one" in caplog.text


def test_row_57_at_the_end_of_a_group_of_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A client that waits for an operation fails: the others still get their results, and the journal tidies later."""
    told: list[str] = []
    delays: list[float] = []
    journal = SqliteJournal(
        tmp_path, Clock(), SharedCore(), post=fail, defer=fail, call_later=lambda delay, callback: delays.append(delay)
    )
    journal._when_writable = [fail, partial(told.append, "resumed")]
    journal._end_group([Mark(fail), Mark(partial(told.append, "ended"))], Result([]))
    assert told == ["ended", "resumed"]
    assert delays == [CLEAN_UP_PERIOD]
    assert caplog.text.count("Internal error at the end of a group of the journal") == 2


def fail(*arguments: object) -> None:
    raise Fault
