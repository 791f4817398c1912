"""The registry of connections and their timers, with peers that only record the calls."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, ClassVar, cast

import pytest

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.lane import Subscriber
from pubsub.protocol.answers import TransportName
from pubsub.protocol.errors import CloseReason
from pubsub.system.tcp_info import Traffic
from pubsub.websocket import connections
from pubsub.websocket.connections import Connections
from pubsub.websocket.ending import Ending
from pubsub.websocket.peer import Limits
from pubsub.websocket.timers import SERVED, STALL_TICKS, TICK, Timers
from tests.doubles import Sink

LIMITS = Limits(
    ping_period=30, pong_wait=60, write_wait=10, read_timeout=15, max_message_bytes=1024, queue_size=10, auth_wait=5
)


class Loop:
    """A fake event loop with the parts that the timers use: a clock and one timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timer: tuple[float, Any] | None = None
        self.soon: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Any) -> object:
        self.timer = self.now + delay, callback
        return self.timer

    def call_soon(self, callback: Any) -> None:
        self.soon.append(callback)

    def run_soon(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def run_timer(self) -> None:
        assert self.timer is not None, "it runs as long as there are peers"
        (self.now, callback), self.timer = self.timer, None
        callback()

    def run(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            self.run_timer()
            while self.soon:
                self.run_soon()
        self.now = end


class Recorder:
    """A Peer that records all calls with their time. Its end removes it, as that of a connection does."""

    by_rest: ClassVar[bool] = False
    identity = None
    number = slot = 0
    transport_name: TransportName = "websocket"
    round_trip = None
    last_progress = 0.0
    next_ping = 0.0
    claimed: str | None = None
    age = 0.0
    is_behind = False

    def __init__(self, world: World, client_id: str = "c", *, deadline: float = inf, fails: bool = False) -> None:
        self.world = world
        self.client_id = client_id
        self.deadline = deadline
        self.fails = fails
        self.is_slow = False
        self.active = world.loop.now
        self.done: list[tuple[str, float]] = []
        self.subscriber = Subscriber(Sink(lambda encoded: None), OutboxOptions(10, Clock()))
        world.connections.add(self)

    def _end(self, what: str) -> None:
        self.done.append((what, self.world.loop.now))
        self.world.connections.remove(self)
        if self.fails:
            raise RuntimeError("a fault of this peer")

    def last_activity(self, now: float) -> float:
        return self.active

    def is_slow_consumer(self, now: float) -> bool:
        return self.is_slow

    def traffic(self) -> Traffic:
        return Traffic(0, 0)

    def may_subscribe(self, topic: str) -> bool:
        return True

    def send_heartbeat(self, ts: str) -> None:
        self.done.append(("ping", self.world.loop.now))
        if self.fails:
            raise RuntimeError("a fault of this peer")

    def close(self, reason: CloseReason) -> None:
        self._end(reason.reason)

    def expire(self) -> None:
        self._end("expire")

    def revoke(self) -> None:
        self._end("revoke")

    def time_out_message(self) -> None:
        self._end("time out")

    def close_slow_consumer(self) -> None:
        self._end("slow consumer")

    def close_for_shutdown(self, reconnect_after_ms: int) -> None:
        self.done.append(("shutdown", reconnect_after_ms))

    def disconnect(self) -> None:
        self._end("disconnect")

    def abort(self, kind: Ending, text: str) -> None:
        self.done.append((kind.name, self.world.loop.now))
        self.world.connections.remove(self)


class World:
    def __init__(self) -> None:
        self.loop = Loop()
        self.timers = Timers(LIMITS, Clock(lambda: 0), cast(asyncio.AbstractEventLoop, self.loop))
        self.connections = Connections(self.timers, self.loop.time)


@pytest.fixture
async def world() -> World:
    return World()


def steps(peer: Recorder) -> list[str]:
    return [step for step, _ in peer.done]


async def test_each_peer_is_pinged_once_in_a_period_at_a_time_of_its_own(world: World) -> None:
    peers = [Recorder(world) for _ in range(10)]
    for peer in peers:
        peer.active = inf
    world.loop.run(90.5)
    firsts = [peer.done[0][1] for peer in peers]
    assert all(len(peer.done) == 3 for peer in peers)
    assert all(
        later[1] - earlier[1] == pytest.approx(30, abs=2 * TICK) for earlier, later, _ in (p.done for p in peers)
    )
    assert len({round(first) for first in firsts}) == 10, "spread over the period"


async def test_a_peer_without_a_sign_of_life_ends_after_pong_wait(world: World) -> None:
    peer = Recorder(world)
    world.loop.run(59)
    assert "SILENT" not in steps(peer)
    peer.active = world.loop.now
    world.loop.run(59)
    assert "SILENT" not in steps(peer)
    world.loop.run(2)
    assert steps(peer)[-1] == "SILENT"
    assert len(world.connections) == 0


async def test_a_deadline_ends_a_peer_and_may_be_moved(world: World) -> None:
    peer = Recorder(world, deadline=world.loop.now + 5)
    moved = Recorder(world, deadline=world.loop.now + 5)
    moved.deadline = world.loop.now + 20
    world.timers.reschedule(moved)
    world.loop.run(6)
    assert steps(peer) == ["expire"]
    assert "expire" not in steps(moved)
    world.loop.run(15)
    assert steps(moved)[-1] == "expire"


async def test_row_65_peers_that_are_due_together_are_served_in_turns(world: World) -> None:
    """Meanwhile some go, and some get another time."""
    peers = [Recorder(world, deadline=world.loop.now + 5) for _ in range(2 * SERVED + 10)]
    while not world.loop.soon:
        world.loop.run_timer()
    ended = [each[1] for peer in peers for each in peer.done if each[0] == "expire"]
    assert ended.count(world.loop.now) == SERVED
    first, second, *rest = [peer for peer in peers if "expire" not in steps(peer)]
    first.disconnect()
    second.deadline = world.loop.now + 20
    world.timers.reschedule(second)
    world.loop.run_timer()  # the next tick leaves them to the turns
    assert not any("expire" in steps(peer) for peer in rest)
    world.loop.run(1)
    assert all("expire" in steps(peer) for peer in rest)
    assert "expire" not in steps(first) + steps(second)
    world.loop.run(25)
    assert steps(second)[-1] == "expire"


async def test_a_message_that_is_not_whole_in_time_ends_its_peer(world: World) -> None:
    peer, quick = Recorder(world), Recorder(world)
    world.timers.begin_message(peer, anew=True)
    world.timers.begin_message(quick, anew=True)
    world.loop.run(10)
    world.timers.begin_message(peer, anew=False)  # more of the same
    world.timers.end_message(quick)
    world.timers.begin_message(quick, anew=True)  # another one
    world.loop.run(6)
    assert "time out" in steps(peer)
    assert "time out" not in steps(quick)


async def test_each_blocked_peer_is_looked_at_once_in_some_ticks(world: World) -> None:
    peers = [Recorder(world) for _ in range(20)]
    for peer in peers:
        world.timers.blocked[peer] = None
    peers[7].is_slow = True
    world.loop.run(TICK * (STALL_TICKS + 1))
    assert [peer for peer in peers if "slow consumer" in steps(peer)] == [peers[7]]
    assert peers[7] not in world.timers.blocked
    assert len(world.timers.blocked) == 19


async def test_the_timer_rests_without_connections(world: World) -> None:
    peer = Recorder(world)
    peer.disconnect()
    world.loop.run(1)
    assert world.loop.timer is None
    Recorder(world)
    assert world.loop.timer is not None


async def test_a_peer_that_fails_ends_and_the_others_are_looked_after(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    peers = [Recorder(world, str(number), fails=number == 1) for number in range(3)]
    world.loop.run(31)
    assert steps(peers[1]) == ["ping", "FAULT"]
    assert steps(peers[0]) == steps(peers[2]) == ["ping"]
    assert "Internal error at client 1" in caplog.text


async def test_pages_follow_each_other_in_the_order_of_arrival(world: World) -> None:
    peers = [Recorder(world, str(number)) for number in range(5)]
    first = world.connections.page(0, 2)
    peers[2].disconnect()
    rest = world.connections.page(first[-1].number, 10)
    assert [peer.client_id for peer in [*first, *rest]] == ["0", "1", "3", "4"]
    assert world.connections.left == 1


async def test_disconnect_ends_all_of_a_client_and_nobody_else(world: World) -> None:
    peers = [Recorder(world, "ab"[number % 2]) for number in range(6)]
    assert await world.connections.disconnect("a") == 3
    assert await world.connections.disconnect("a") == 0
    assert [steps(peer) for peer in peers] == [["disconnect"], []] * 3


async def test_of_too_many_connections_the_newest_that_are_counted_are_closed(world: World) -> None:
    """One that took its name from a message is not counted."""
    peers = [Recorder(world, "ab"[number % 2]) for number in range(7)]
    for peer in peers[:-1]:
        peer.claimed = peer.client_id
    await world.connections.close_newest("a", 2)
    closed = [CloseReason.TOO_MANY_CONNECTIONS.reason]
    assert [steps(peer) for peer in peers] == [[], [], closed, [], closed, [], []]


async def test_close_all_spreads_the_reconnects_and_aborts_the_late(world: World) -> None:
    peers = [Recorder(world) for _ in range(100)]
    peers[3].is_behind = True
    assert await world.connections.close_all(within=0, spread=5) == 1
    assert all(steps(peer) == ["shutdown", "SHUTDOWN_TIMEOUT"] for peer in peers)
    delays = sorted(peer.done[0][1] for peer in peers)
    assert all(50 * number <= delay <= 50 * (number + 1) for number, delay in enumerate(delays)), "one in each share"
    assert len(world.connections) == 0


async def test_connections_are_found_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SEARCHED_AT_ONCE", 2)
    peers = [Recorder(world, f"{'ab'[number % 2]}{number}") for number in range(7)]

    async def find(**options: Any) -> list[str]:
        found = await world.connections.find(lambda peer: peer.client_id.startswith("a"), **options)
        return [peer.client_id for peer in found]

    assert await find() == ["a0", "a2", "a4", "a6"]
    assert await find(most=2) == ["a0", "a2"]
    assert await find(after=peers[2].number, most=3) == ["a4", "a6"]
    searching = asyncio.ensure_future(find())
    await asyncio.sleep(0)
    peers[6].abort(Ending.LOST, "")
    assert await searching == ["a0", "a2", "a4", "a6"], "those that were here at the beginning"
    assert await world.connections.of_client("b1") == [peers[1]]
