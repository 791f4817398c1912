"""The routes of topics. A handler reads, calls the Broker once and renders; nothing about topics is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
from aiohttp import web

from pubsub.core.log import Done
from pubsub.core.ring import Ring
from pubsub.core.topic import Topic
from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITY
from pubsub.http.rendering import ROWS_AT_ONCE, read_text, render, render_bytes, render_rows
from pubsub.protocol.answers import TopicCreated, TopicDeleted, TopicDescription, TopicRow
from pubsub.protocol.errors import Failure
from pubsub.protocol.mistakes import explain
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import OVERFLOWS, NewTopic

_decode_new_topic = msgspec.json.Decoder(NewTopic).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def create_topic(request: web.Request) -> web.Response:
    text = await read_text(request)
    try:
        wanted = _decode_new_topic(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, OVERFLOWS)
    chosen = {name: getattr(wanted, name) for name in _decode_fields(text) if name != "name"}
    broker = request.app[BROKER]
    await ended(partial(broker.create_topic, wanted.name, broker.rules.options_of(wanted.name, chosen)))
    return render(TopicCreated(topic=wanted.name), status=201)


async def describe_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    request[IDENTITY].require_subscribe(name)
    topic = request.app[BROKER].find_topic(name)
    kept = topic.stored_bytes if topic.first else await ring_bytes(topic.ring)
    return render(
        TopicDescription(
            name=topic.name,
            epoch=topic.epoch,
            seq=topic.seq,
            messages=topic.seq,
            subscribers=topic.subscribers,
            bytes=kept,
            options=topic.options,
        )
    )


async def ring_bytes(ring: Ring) -> int:
    """The size of the messages in the ring, counted in slices, so that a long ring keeps no other client waiting."""
    total, newest = 0, ring.newest
    after = ring.oldest - 1
    while after < newest and (events := ring.after(after, ROWS_AT_ONCE)):
        total += sum(len(event.text) for event in events)
        after = events[-1].seq
        await asyncio.sleep(0)
    return total


async def delete_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await ended(partial(request.app[BROKER].delete_topic, name))
    return render(TopicDeleted(topic=name))


async def ended(begin: Callable[[Done], None]) -> None:
    """Wait for the end of what the Broker may end later. Raises the Failure that it ends with."""
    end: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
    begin(lambda failure: None if end.done() else end.set_result(failure))
    if (failure := await end) is not None:
        raise failure


async def list_topics(request: web.Request) -> web.Response:
    identity = request[IDENTITY]

    def row(topic: Topic) -> bytes | None:
        if not identity.may_subscribe(topic.name):
            return None
        return encode(TopicRow(topic.name, topic.subscribers))

    return render_bytes(b'{"topics":[%b]}' % await render_rows(request.app[BROKER].topics, row))
