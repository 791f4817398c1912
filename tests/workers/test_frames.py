"""Frames between the processes of a server, on real sockets."""

from __future__ import annotations

import asyncio
import socket

from pubsub.journals.workers.frames import FrameConnection


async def test_a_frame_after_the_end_of_the_connection_is_lost() -> None:
    """The transport is closed a step before its owner is told: uvloop raises if it is written to then."""
    ours, theirs = socket.socketpair()
    connection = FrameConnection(most=100, connected=lambda _: None, lost=lambda: None)
    with theirs:
        await asyncio.get_running_loop().create_connection(lambda: connection, sock=ours)
        connection.transport.abort()
        await asyncio.sleep(0)
        connection.write(b"frame")
