"""Endings of a connection: one for each close reason, and the state of an end that has begun."""

from __future__ import annotations

import asyncio

from pubsub.protocol.errors import CloseReason
from pubsub.websocket.ending import End, Ending


def test_each_close_reason_is_an_ending_of_the_same_name() -> None:
    assert {ending.name: ending.close_reason for ending in Ending if ending.close_reason} == CloseReason.__members__


def test_endings_without_a_close_frame_have_none() -> None:
    assert Ending.CLOSED_BY_CLIENT.close_reason is None
    assert len(Ending) == len(Ending.__members__), "no two have the same value"


def test_a_close_frame_is_owed_from_when_it_is_due_until_the_timer_runs() -> None:
    end = End(Ending.GOING_AWAY, "the server is shutting down")
    assert not end.owes_close
    end.due = CloseReason.GOING_AWAY
    assert end.owes_close
    loop = asyncio.new_event_loop()
    end.timer = loop.call_later(1, loop.stop)
    assert not end.owes_close
    loop.close()
