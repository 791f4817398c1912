"""The state of the console's connection, and what a person is told of it."""

from __future__ import annotations

import pytest

from pubsub.client import Disconnected, State, StateChange, Unreachable
from pubsub.console.connection import Connection
from tests.harness import on_one_loop

OPEN = StateChange(State.OPEN, "connected")
REFUSED = StateChange(State.CONNECTING, "Connection refused", Unreachable("Connection refused"), 0.1)
LOST = StateChange(State.CONNECTING, "the connection was lost", Unreachable("the connection was lost"), 0.1)
LOST_REMARK = "the connection was lost; trying again"
AGAIN = "connected again to http://h as me"
OPERATOR = Disconnected(4403, "an operator disconnected this client")
ENDED = StateChange(State.CLOSED, str(OPERATOR), OPERATOR)


def remarks_on(*changes: StateChange) -> tuple[Connection, list[str]]:
    remarks: list[str] = []
    connection = Connection("http://h as me", remarks.append)
    for change in changes:
        connection.note(change)
    return connection, remarks


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([OPEN], []),
        ([REFUSED, REFUSED, REFUSED], ["Connection refused; trying again"]),
        ([OPEN, LOST, REFUSED, REFUSED, OPEN], [LOST_REMARK, "Connection refused; trying again", AGAIN]),
        ([OPEN, LOST, OPEN, LOST], [LOST_REMARK, AGAIN, LOST_REMARK]),
        ([OPEN, ENDED], []),
    ],
)
@on_one_loop
async def test_news_of_the_connection_is_told_once(changes: list[StateChange], told: list[str]) -> None:
    assert remarks_on(*changes)[1] == told


@on_one_loop
async def test_command_needs_a_connection() -> None:
    connection, _ = remarks_on()
    with pytest.raises(Unreachable, match="not connected: no connection was made yet"):
        connection.require_open()
    connection.note(REFUSED)
    with pytest.raises(Unreachable, match="not connected: Connection refused"):
        connection.require_open()
    await connection.wait_open(within=0.001)
    connection.note(OPEN)
    connection.require_open()
    await connection.wait_open()


@on_one_loop
async def test_end_has_its_reason() -> None:
    connection, _ = remarks_on(OPEN)
    connection.require_alive()
    connection.note(ENDED)
    connection.note(StateChange(State.CLOSED, "the client was closed"))
    await connection.wait_ended()
    with pytest.raises(Disconnected, match="an operator disconnected this client"):
        connection.require_alive()
    with pytest.raises(Unreachable, match="not connected: an operator disconnected this client"):
        connection.require_open()
