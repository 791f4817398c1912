"""``/clients``: the connections that are open, those that have ended, and the disconnection of a client."""

from __future__ import annotations

from aiohttp import web

from pubsub.core.clock import spell
from pubsub.http.app_keys import CONNECTIONS, SERVICES
from pubsub.http.query import read_query
from pubsub.http.rendering import render, render_bytes, render_rows
from pubsub.protocol.answers import ClientDisconnected, ClientRow, EndedRow
from pubsub.protocol.calls import ClientQuery, ClientsQuery
from pubsub.protocol.errors import ClientNotFound
from pubsub.protocol.replies import encode
from pubsub.websocket.departures import Departure
from pubsub.websocket.peer import Peer
from pubsub.websocket.services import Services


async def list_clients(request: web.Request) -> web.Response:
    """A page of connections, oldest first. A connection that stays is in exactly one of the pages that follow."""
    wanted, services = read_query(request, ClientsQuery), request.app[SERVICES]
    if wanted.ended:
        return list_ended(services, wanted)

    def matches(peer: Peer) -> bool:
        return peer.client_id.startswith(wanted.prefix)

    page = await services.connections.find(matches, after=wanted.cursor, most=wanted.limit + 1)
    rows, following = await render_page(services, page, wanted.limit)
    return render_bytes(b'{"clients":[%b],"next":%b}' % (rows, following))


def list_ended(services: Services, wanted: ClientsQuery) -> web.Response:
    """A page of the connections that have ended, newest first; the cursor is the number of rows before it."""
    found = [each for each in services.departures.last if each.client_id.startswith(wanted.prefix)]
    end = wanted.cursor + wanted.limit
    rows = b",".join([encode(describe_ended(each)) for each in found[wanted.cursor : end]])
    following = str(end) if end < len(found) else None
    return render_bytes(b'{"clients":[%b],"next":%b}' % (rows, encode(following)))


async def describe_client(request: web.Request) -> web.Response:
    client_id, services = request.match_info["client_id"], request.app[SERVICES]
    wanted = read_query(request, ClientQuery)
    ended = services.departures.of_client(client_id)
    page = await services.connections.find(
        lambda peer: peer.client_id == client_id, after=wanted.cursor, most=wanted.limit + 1
    )
    if not page and not ended:
        raise ClientNotFound
    rows, following = await render_page(services, page, wanted.limit)
    last = b",".join([encode(describe_ended(each)) for each in ended[: wanted.limit]])
    form = b'{"client_id":%b,"connections":[%b],"next":%b,"ended":[%b]}'
    return render_bytes(form % (encode(client_id), rows, following, last))


async def render_page(services: Services, page: list[Peer], limit: int) -> tuple[bytes, bytes]:
    """The rows of a page, and the cursor of the next one. ``page`` has one connection more if there are more."""
    following = str(page[limit - 1].number) if len(page) > limit else None
    rows = await render_rows(page[:limit], lambda peer: encode(describe(peer, services.now())))
    return rows, encode(following)


def describe(peer: Peer, now: float) -> ClientRow:
    subscriber, traffic = peer.subscriber, peer.traffic()
    return ClientRow(
        client_id=peer.client_id,
        transport=peer.transport_name,
        connected_sec=int(peer.age),
        subscriptions=subscriber.subscriptions,
        queued=subscriber.queued,
        dropped=subscriber.dropped,
        bytes_in=traffic.bytes_in,
        bytes_out=traffic.bytes_out,
        stalled_sec=int(now - peer.last_progress) if subscriber.lagging else 0,
        round_trip_ms=peer.round_trip,
    )


def describe_ended(departure: Departure) -> EndedRow:
    reason = departure.kind.close_reason
    return EndedRow(
        client_id=departure.client_id,
        transport=departure.transport_name,
        connected_at=spell(departure.connected_at),
        ended_at=spell(departure.ended_at),
        ending=departure.kind.name.lower(),
        code=None if reason is None else reason.code,
        reason=departure.text,
        dropped=departure.dropped,
    )


async def disconnect_client(request: web.Request) -> web.Response:
    client_id = request.match_info["client_id"]
    count = await request.app[CONNECTIONS].disconnect(client_id)
    if not count:
        raise ClientNotFound
    return render(ClientDisconnected(client_id=client_id, connections=count))
