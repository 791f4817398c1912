"""Questions of a user about a topic, over the WebSocket: its kept messages, its clients. They change nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import UNSET, Raw
from msgspec.structs import replace

from pubsub.client.conversation import Conversation
from pubsub.client.errors import PubsubError, ServerFault
from pubsub.client.events import Event
from pubsub.client.exchange import Answer
from pubsub.client.inbox import event_of
from pubsub.client.outcomes import History, Presence, PresentClient
from pubsub.client.replies import HistoryReply, Pong, PresenceReply
from pubsub.client.requests import MAX_HISTORY_LIMIT, Ping, Request
from pubsub.client.requests import History as HistoryRequest
from pubsub.client.requests import Presence as PresenceRequest

__all__ = ["Questions"]

Reply = TypeVar("Reply", HistoryReply, PresenceReply, Pong)


class Questions:
    """See the module. A question is asked again in a later connection, up to the time limit of the conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def history(self, request: HistoryRequest, limit: int, decode: Callable[[Raw], Any]) -> History[Any]:
        """Fetch up to ``limit`` kept messages, page by page."""
        found: list[Event[Any]] = []
        complete = True
        while True:
            request = replace(request, limit=min(MAX_HISTORY_LIMIT, limit - len(found)))
            page = await self._ask(request, HistoryReply)
            if found and page.epoch != found[0].epoch:  # the topic was created again meanwhile
                return History(found[0].epoch, found, complete=False)
            complete = complete and page.complete
            found += (event_of(each, page.epoch, decode) for each in page.messages)
            if request.after is UNSET or len(page.messages) < request.limit or len(found) >= limit:
                return History(page.epoch, found, complete)
            request = replace(request, after=page.messages[-1].seq)

    async def presence(self, topic: str) -> Presence:
        reply = await self._ask(PresenceRequest(topic=topic), PresenceReply)
        return Presence(topic, reply.count, [PresentClient(each.client_id, each.connections) for each in reply.clients])

    async def ping(self) -> float:
        """Return the seconds up to the answer."""
        asked_at = time.monotonic()  # uvloop's own clock has steps of a millisecond
        await self._ask(Ping(), Pong)
        return time.monotonic() - asked_at

    async def _ask(self, request: Request, kind: type[Reply]) -> Reply:
        outcome: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer) -> None:
            if outcome.done():
                return
            if isinstance(answer, kind):
                outcome.set_result(answer)
            elif isinstance(answer, PubsubError):
                outcome.set_exception(answer)
            else:
                outcome.set_exception(ServerFault(f"expected {kind.__name__}, got {type(answer).__name__}"))

        question = self._conversation.ask(request, answered)
        try:
            return await outcome
        except asyncio.CancelledError:
            self._conversation.forget(question)
            raise
