"""Rows of ``/clients``: a connection that is open, or one that has ended."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from pubsub.core.clock import spell
from pubsub.protocol.answers import ClientRow, EndedRow
from pubsub.websocket.departures import Departure
from pubsub.websocket.peer import Peer


def describe(peer: Peer, now: float, server: str | UnsetType = UNSET) -> ClientRow:
    """``server``: this one, if it is one of several."""
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
        server=server,
    )


def describe_ended(departure: Departure, server: str | UnsetType = UNSET) -> EndedRow:
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
        server=server,
    )
