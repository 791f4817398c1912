"""The parts of a client that is in use: links, publishes, questions, REST. They must never be used after the end."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from yarl import URL

from pubsub.client.link import Peer
from pubsub.client.links import Links
from pubsub.client.outgoing import Outgoing
from pubsub.client.pacing import Pacing
from pubsub.client.publishes import OwnIds
from pubsub.client.questions import Questions
from pubsub.client.rest import NO_LIMIT, RestClient
from pubsub.client.socket import Socket
from pubsub.client.states import StateChange
from pubsub.client.tokens import Tokens

__all__ = ["Options", "Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a client. ``waits``: a publish over ``max_outgoing`` waits, rather than to fail."""

    url: URL
    client_id: str
    tokens: Tokens
    api_key: str | None
    tls: ssl.SSLContext | None
    connect_timeout: float | None
    answer_timeout: float
    heartbeat: float
    max_outgoing: int
    waits: bool
    max_incoming: int
    on_state: Callable[[StateChange], None]

    def __post_init__(self) -> None:
        """Raises ValueError for an option that is out of its range."""
        for name in ("max_outgoing", "max_incoming"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("answer_timeout", "heartbeat"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected seconds above 0, got {getattr(self, name)}")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ValueError("api_key: expected printable ASCII characters")


class Parts:
    """See the module. The first connection begins at once."""

    def __init__(self, options: Options) -> None:
        self.peer = Peer(
            http=_open_http(options),
            url=options.url,
            tokens=options.tokens,
            own_ids=OwnIds(),
            pacing=Pacing(),
            asked_id=options.client_id,
            client_id=options.client_id,
            answer_timeout=options.answer_timeout,
            heartbeat=options.heartbeat,
        )
        self.links = Links(self.peer, options.connect_timeout, options.on_state)
        conversation = self.links.first.conversation
        self.outgoing = Outgoing(conversation, options.max_outgoing, waits=options.waits)
        self.questions = Questions(conversation)
        self.rest = RestClient(self.peer.http, options.url, options.tokens.headers, options.answer_timeout)

    async def close(self) -> None:
        try:
            await self.links.close()
        finally:
            await self.peer.http.close()


def _open_http(options: Options) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=NO_LIMIT,
        headers={"X-API-Key": options.api_key} if options.api_key else {},
        connector=aiohttp.TCPConnector(ssl=options.tls or True),
        ws_response_class=Socket,
    )
