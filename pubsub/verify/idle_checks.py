"""Idle connections, kept open beside the other checks: the heartbeat must come before a proxy ends them.

They must never send anything by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pubsub.client.errors import ServerFault
from pubsub.client.replies import Info, decode
from pubsub.verify import advice
from pubsub.verify.deployment import Deployment
from pubsub.verify.event_stream import open_stream
from pubsub.verify.outcomes import CheckFailed, CheckSkipped
from pubsub.verify.websocket import Closed

NEEDED: Final = 2
"""Heartbeats that show a whole period: the first one comes at any time within its period."""
DEFAULT_PERIOD_SEC: Final = 30
ENOUGH_SEC: Final = 2 * DEFAULT_PERIOD_SEC + 5


class Silence:
    """The heartbeats of one connection, and the longest time without anything. ``is_open``: the connection was made."""

    def __init__(self) -> None:
        self.is_open = False
        self.heartbeats = 0
        self._begun = self._last = time.monotonic()
        self._longest = 0.0

    def opened(self) -> None:
        self.is_open = True
        self._begun = self._last = time.monotonic()

    def heard(self) -> None:
        self._longest = self.longest
        self._last = time.monotonic()

    @property
    def longest(self) -> float:
        return max(self._longest, time.monotonic() - self._last)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


Listen = Callable[[Silence], Awaitable[None]]
"""Take heartbeats until there are enough. Raises Closed, ServerFault or OSError if the connection ends."""


async def heartbeat(deployment: Deployment, seconds: float) -> str:
    """Keep an idle WebSocket open."""

    async def listen(silence: Silence) -> None:
        async with deployment.websocket("heartbeat") as websocket:
            silence.opened()
            while silence.heartbeats < NEEDED:
                message = decode(await websocket.read_text())
                silence.heartbeats += isinstance(message, Info) and message.msg == "ping"
                silence.heard()

    return await watch(listen, seconds)


async def stream_heartbeat(deployment: Deployment, seconds: float) -> str:
    """Keep an idle stream open."""

    async def listen(silence: Silence) -> None:
        topic = await deployment.create_topic("idle-stream")
        async with open_stream(deployment, topic, {}) as events:
            await events.next_message()
            silence.opened()
            while silence.heartbeats < NEEDED:
                silence.heartbeats += (await events.next_block()).message is None
                silence.heard()

    return await watch(listen, seconds)


async def watch(listen: Listen, seconds: float) -> str:
    """Listen for at most so many seconds; see the module."""
    silence = Silence()
    try:
        async with asyncio.timeout(seconds):
            await listen(silence)
    except TimeoutError:
        if not silence.is_open:
            raise CheckFailed(f"no answer within {seconds:.0f} s") from None
        raise CheckSkipped(
            f"still open after {silence.seconds:.0f} s, with {silence.heartbeats} of {NEEDED} heartbeats; "
            f"--seconds {ENOUGH_SEC} is enough for the default PING_PERIOD_SEC of {DEFAULT_PERIOD_SEC}"
        ) from None
    except (ServerFault, OSError, Closed) as error:
        if not silence.is_open:
            raise
        raise CheckFailed(f"it ended after {silence.longest:.1f} s without traffic: {error}", advice.IDLE) from None
    return f"{NEEDED} heartbeats came; the longest silence was {silence.longest:.1f} s"
