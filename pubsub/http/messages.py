"""The routes of a topic's messages. A handler reads, calls the Broker once and renders."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aiohttp import web
from msgspec import UNSET, Raw

from pubsub.core.broker import Broker
from pubsub.core.history import KeptEvents
from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITY
from pubsub.http.query import read_query
from pubsub.http.rendering import render
from pubsub.http.waiting import answered
from pubsub.protocol.answers import KeptMessages
from pubsub.protocol.calls import HistoryQuery
from pubsub.protocol.errors import BadRequest, Failure


async def read_messages(request: web.Request) -> web.Response:
    topic = request.match_info["name"]
    request[IDENTITY].require_subscribe(topic)
    wanted = read_query(request, HistoryQuery)
    kept = await answered(partial(ask_for_history, request.app[BROKER], topic, wanted))
    return render(
        KeptMessages(
            topic=topic,
            epoch=kept.epoch,
            messages=[Raw(event.text) for event in kept.events],
            complete=kept.complete,
        )
    )


def ask_for_history(
    broker: Broker, topic: str, wanted: HistoryQuery, answer: Callable[[KeptEvents | Failure], None]
) -> None:
    """Raises TopicNotFound, BadRequest."""
    after, last_n = wanted.after, wanted.last_n
    if isinstance(after, int) and last_n is UNSET:
        broker.history_after(topic, after, wanted.limit, answer)
    elif isinstance(last_n, int) and after is UNSET:
        broker.history_last(topic, min(last_n, wanted.limit), answer)
    else:
        raise BadRequest("after or last_n: expected one of them")
