"""Connections that have ended: all are counted, and the last ones are remembered for a while."""

from __future__ import annotations

from pubsub.http.app_keys import SERVICES
from pubsub.websocket.departures import MOST, Departure, Departures
from pubsub.websocket.ending import Ending
from tests.harness import RawClient, eventually, run_server
from tests.streams import Stream


class Clock:
    now = 1000.0


def departure(number: int, clock: Clock) -> Departure:
    return Departure(
        client_id=f"c{number}",
        transport_name="websocket",
        kind=Ending.LOST,
        text="",
        at=clock.now,
        connected_at=int(clock.now),
        ended_at=int(clock.now),
        dropped=0,
        trail=None,
    )


def test_the_last_are_remembered_newest_first_and_all_are_counted() -> None:
    clock = Clock()
    departures = Departures(lambda: clock.now, 60)
    for number in range(MOST + 5):
        departures.add(departure(number, clock))
    assert [each.client_id for each in departures.last] == [f"c{number}" for number in range(MOST + 4, 4, -1)]
    assert departures.counts == {("websocket", Ending.LOST): MOST + 5}


def test_each_is_forgotten_after_its_time() -> None:
    clock = Clock()
    departures = Departures(lambda: clock.now, 60)
    for number in range(3):
        departures.add(departure(number, clock))
        clock.now += 25
    assert [each.client_id for each in departures.last] == ["c2", "c1"]
    clock.now += 60
    assert departures.last == []


async def test_ends_are_counted_by_transport_and_kind() -> None:
    async with run_server() as server:
        await server.create("a")
        services = server.app[SERVICES]
        async with server.client("alice"):
            stream = await Stream.open(server.port, "/topics/a/events")
            assert services.connections.counts == {"websocket": 1, "sse": 1}
        await eventually(lambda: server.connections == 1)
        stream.client.close()
        await eventually(lambda: server.connections == 0)
        (await RawClient.connect(server.port)).reset()
        await eventually(lambda: len(services.departures.last) == 3)
        assert services.departures.counts == {
            ("websocket", Ending.CLOSED_BY_CLIENT): 1,
            ("sse", Ending.HUNG_UP): 1,
            ("websocket", Ending.RESET): 1,
        }
        assert sum(services.connections.counts.values()) == 0
        assert {each.client_id for each in services.departures.last} >= {"alice", "raw"}
        assert all(each.ended_at >= each.connected_at > 0 and each.text for each in services.departures.last)
