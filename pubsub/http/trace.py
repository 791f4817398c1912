"""``GET /clients/{client_id}/trace``: the fate of one message at the connections of one client."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web
from msgspec import Struct, UnsetType

from pubsub.core.broker import Broker
from pubsub.core.clock import spell
from pubsub.core.trace import Message, Verdict, trace_ended, trace_open
from pubsub.http.app_keys import BROKER, SERVICES
from pubsub.http.message_search import find_by_id, find_by_seq
from pubsub.http.query import read_query
from pubsub.http.rendering import render
from pubsub.http.scope import ask_others, cluster_for, missing_of, server_of
from pubsub.protocol.answers import Trace, TracedConnection
from pubsub.protocol.calls import TraceQuery, check_trace
from pubsub.protocol.errors import ClientNotFound, MessageNotFound, TopicNotFound
from pubsub.protocol.replies import Event, encode
from pubsub.websocket.services import Services

TRACED_AT_ONCE: Final = 100  # connections of one client, up to 10 µs each, or a filter

KIND: Final = "trace"

_decode_event = msgspec.json.Decoder(Event).decode


class TraceAsked(Struct, frozen=True, array_like=True, gc=False):
    """A question to other servers: for a client and a message, which they find by its number."""

    client_id: str
    topic: str
    epoch: str
    seq: int


_encode = msgspec.msgpack.Encoder().encode
_decode_asked = msgspec.msgpack.Decoder(TraceAsked).decode
_decode_rows = msgspec.json.Decoder(list[TracedConnection]).decode


async def trace_message(request: web.Request) -> web.Response:
    wanted, services = read_query(request, TraceQuery), request.app[SERVICES]
    check_trace(wanted)
    client_id = request.match_info["client_id"]
    message = await find_message(request.app[BROKER], wanted)
    asked = TraceAsked(client_id, message.topic.name, message.topic.epoch, message.seq)
    others = await ask_others(cluster_for(request, wanted.scope), KIND, _encode(asked))
    connections = await trace_client(services, client_id, message, server_of(request.app))
    for server in sorted(others.found):
        connections += _decode_rows(others.found[server])
    if not connections:
        raise ClientNotFound(others.missing)
    event = None if message.event is None else _decode_event(message.event.text)
    answer = Trace(
        client_id=client_id,
        topic=message.topic.name,
        message=None if event is None else event.message.id,
        seq=message.seq,
        published_at=None if event is None else event.ts,
        connections=connections,
        missing=missing_of(others.missing),
    )
    return render(answer)


async def find_message(broker: Broker, wanted: TraceQuery) -> Message:
    """Raises TopicNotFound, MessageNotFound."""
    topic = wanted.topic if isinstance(wanted.topic, str) else None
    if isinstance(wanted.message, str):
        return await find_by_id(broker, wanted.message, topic)
    assert topic is not None, "check_trace lets none pass without a topic and a seq"
    assert isinstance(wanted.seq, int), "check_trace lets none pass without a topic and a seq"
    return await find_by_seq(broker, topic, wanted.seq)


async def answer_trace(app: web.Application, body: bytes) -> bytes:
    """The rows of this server, for another one; none if the topic is another one here, or does not come so far."""
    asked = _decode_asked(body)
    try:
        message = await find_by_seq(app[BROKER], asked.topic, asked.seq)
    except (TopicNotFound, MessageNotFound):
        return encode([])
    if message.topic.epoch != asked.epoch:
        return encode([])
    return encode(await trace_client(app[SERVICES], asked.client_id, message, server_of(app)))


async def trace_client(
    services: Services, client_id: str, message: Message, server: str | UnsetType
) -> list[TracedConnection]:
    """A row for each connection, oldest first: those that have ended and are remembered, then those that are open."""
    rows = [
        describe(trace_ended(message, each.trail, each.text), each.connected_at, server)
        for each in reversed(services.departures.of_client(client_id))
    ]
    for number, peer in enumerate(await services.connections.of_client(client_id), 1):
        verdict = trace_open(message, peer.subscriber, allowed=peer.may_subscribe(message.topic.name))
        rows.append(describe(verdict, services.clock.seconds(ago=peer.age), server))
        if number % TRACED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return rows


def describe(verdict: Verdict, connected_at: int, server: str | UnsetType) -> TracedConnection:
    return TracedConnection(
        outcome=verdict.outcome.value,
        detail=verdict.detail,
        subscribed_at=None if verdict.since is None else spell(verdict.since),
        connected_at=spell(connected_at),
        server=server,
    )
