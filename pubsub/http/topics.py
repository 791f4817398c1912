"""The routes of topics. A handler reads, calls the Broker once and renders; nothing about topics is decided here."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from pubsub.auth.identity import Identity
from pubsub.core.broker import Broker
from pubsub.core.ring import Ring
from pubsub.core.topic import Topic
from pubsub.http.app_keys import BROKER
from pubsub.http.identities import IDENTITY
from pubsub.http.query import read_query
from pubsub.http.rendering import ROWS_AT_ONCE, read_text, render, render_bytes, render_rows
from pubsub.http.scope import cluster_for, missing_field, missing_of, read_cluster
from pubsub.http.subscribers import ALONE, LOWEST, Elsewhere, count_elsewhere
from pubsub.http.waiting import ended
from pubsub.protocol.answers import TopicCreated, TopicDeleted, TopicDescription, TopicRow
from pubsub.protocol.calls import TopicsQuery, check_names
from pubsub.protocol.mistakes import explain
from pubsub.protocol.replies import encode
from pubsub.protocol.requests import OVERFLOWS, NewTopic

PAGING: Final = frozenset(TopicsQuery.__struct_fields__) - {"scope"}
DESCRIBED_AT_ONCE: Final = 10  # topics, whose rings have up to ROWS_AT_ONCE messages in each

_decode_new_topic = msgspec.json.Decoder(NewTopic).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


async def create_topic(request: web.Request) -> web.Response:
    return render(await create(request.app[BROKER], await read_text(request)), status=201)


async def create(broker: Broker, text: str) -> TopicCreated:
    """Create the topic that the body of a request describes. Raises BadRequest, TopicExists, LimitExceeded."""
    try:
        wanted = _decode_new_topic(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error, text, OVERFLOWS)
    chosen = {name: getattr(wanted, name) for name in _decode_fields(text) if name != "name"}
    await ended(partial(broker.create_topic, wanted.name, broker.rules.options_of(wanted.name, chosen)))
    return TopicCreated(topic=wanted.name)


async def describe_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    request[IDENTITY].require_subscribe(name)
    topic, cluster = request.app[BROKER].find_topic(name), read_cluster(request)
    elsewhere = await count_elsewhere(cluster, [topic])
    return render(await describe(topic, elsewhere, missing=missing_of(elsewhere.missing)))


async def describe(
    topic: Topic, elsewhere: Elsewhere = ALONE, *, missing: list[str] | UnsetType = UNSET
) -> TopicDescription:
    kept = topic.stored_bytes if topic.first else await ring_bytes(topic.ring)
    return TopicDescription(
        name=topic.name,
        epoch=topic.epoch,
        seq=topic.seq,
        messages=topic.seq,
        subscribers=elsewhere.of(topic),
        bytes=kept,
        options=topic.options,
        missing=missing,
    )


async def ring_bytes(ring: Ring) -> int:
    """The size of the messages in the ring, counted in slices, so that a long ring keeps no other client waiting."""
    total, newest = 0, ring.newest
    after = ring.oldest - 1
    while after < newest and (events := ring.after(after, ROWS_AT_ONCE)):
        total += sum(len(event.text) for event in events)
        after = events[-1].seq
        if len(events) == ROWS_AT_ONCE:
            await asyncio.sleep(0)
    return total


async def delete_topic(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    await ended(partial(request.app[BROKER].delete_topic, name))
    return render(TopicDeleted(topic=name))


async def list_topics(request: web.Request) -> web.Response:
    """All topics; or a page of them with all that is known, if any parameter of a page is given."""
    if not PAGING.isdisjoint(request.query):
        return await list_page(request)
    identity = request[IDENTITY]
    elsewhere = await count_elsewhere(read_cluster(request))

    def row(topic: Topic) -> bytes | None:
        if not identity.may_subscribe(topic.name):
            return None
        return encode(TopicRow(topic.name, elsewhere.of(topic)))

    rows = await render_rows(request.app[BROKER].topics, row)
    return render_bytes(b'{"topics":[%b]%b}' % (rows, missing_field(elsewhere.missing)))


async def list_page(request: web.Request) -> web.Response:
    wanted = read_query(request, TopicsQuery)
    check_names(wanted)
    page = await find_page(request.app[BROKER], request[IDENTITY], wanted)
    elsewhere = await count_elsewhere(cluster_for(request, wanted.scope), page[: wanted.limit])
    rows: list[bytes] = []
    for number, topic in enumerate(page[: wanted.limit], 1):
        rows.append(encode(await describe(topic, elsewhere)))
        if number % DESCRIBED_AT_ONCE == 0:
            await asyncio.sleep(0)
    following = page[wanted.limit - 1].name if len(page) > wanted.limit else None
    form = b'{"topics":[%b],"next":%b%b}'
    return render_bytes(form % (b",".join(rows), encode(following), missing_field(elsewhere.missing)))


async def find_page(broker: Broker, identity: Identity, wanted: TopicsQuery) -> list[Topic]:
    """The topics of a page, and one more if there are more. They are looked for in slices: most may be hidden."""
    found: list[Topic] = []
    first = max(wanted.prefix, wanted.after + LOWEST if wanted.after else "")
    while True:
        slice_ = broker.topics_from(first, ROWS_AT_ONCE)
        within = [topic for topic in slice_ if topic.name.startswith(wanted.prefix)]
        found += [topic for topic in within if identity.may_subscribe(topic.name)]
        if len(found) > wanted.limit or len(within) < ROWS_AT_ONCE:
            return found[: wanted.limit + 1]
        first = within[-1].name + LOWEST
        await asyncio.sleep(0)
