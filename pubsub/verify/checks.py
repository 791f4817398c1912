"""The table of all checks, in their order. What a check needs, an earlier one has shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pubsub.verify import client_checks, idle_checks, rest_checks, stream_checks, websocket_checks
from pubsub.verify.deployment import Deployment

Run = Callable[[Deployment], Awaitable[str]]
"""A check: returns its result in words. Raises CheckFailed, CheckSkipped, and any error of the network."""
Watch = Callable[[Deployment, float], Awaitable[str]]
"""A check that takes up to so many seconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """``did`` is its action in words; it needs those in ``needs`` to be ok."""

    name: str
    did: str
    run: Run
    needs: tuple[str, ...] = ("reach",)


@dataclass(frozen=True, slots=True)
class IdleCheck:
    """A check that runs beside all others."""

    name: str
    did: str
    watch: Watch
    needs: tuple[str, ...]


CHECKS: Final = (
    Check("reach", "GET /health", rest_checks.reach, ()),
    Check("credentials", "list topics with the key or the token", rest_checks.credentials),
    Check("errors", "three wrong REST calls", rest_checks.errors),
    Check("topics", "a new topic by several connections", rest_checks.topics),
    Check("upgrade", "open a WebSocket, ping", websocket_checks.upgrade),
)
"""The first ones, before idle connections are opened."""
_TOPICS: Final = ("topics",)
_BOTH: Final = ("topics", "upgrade")
FURTHER_CHECKS: Final = (
    Check("rest", "create, list, read and delete a topic", rest_checks.rest, _TOPICS),
    Check("gzip", "the same answer with and without gzip", rest_checks.coding, _TOPICS),
    Check("body", "a large message over REST", rest_checks.body, _TOPICS),
    Check("stream", "Server-Sent Events", stream_checks.stream, _TOPICS),
    Check("last-event-id", "cut a stream off, resume", stream_checks.stream_resume, ("topics", "stream")),
    Check("origin", "do what a page of this site does", websocket_checks.origin, ("upgrade",)),
    Check("messages", "each message of the basic contract", websocket_checks.messages, _BOTH),
    Check("large", "a large message over a WebSocket", websocket_checks.large, _BOTH),
    Check("limits", "what the server must refuse", websocket_checks.limits, _BOTH),
    Check("compression", "permessage-deflate", websocket_checks.compression, _BOTH),
    Check("resume", "cut a connection off, resume", websocket_checks.resume, _BOTH),
    Check("leave", "cut a client off", websocket_checks.leave, _BOTH),
    Check("order", "two publishers at once", client_checks.order, _BOTH),
    Check("gaps", "resume from what is no longer kept", client_checks.gaps, _BOTH),
)
IDLE_CHECKS: Final = (
    IdleCheck("heartbeat", "an idle WebSocket", idle_checks.heartbeat, ("upgrade",)),
    IdleCheck("heartbeat-sse", "an idle stream", idle_checks.stream_heartbeat, _TOPICS),
)
