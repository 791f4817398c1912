"""The samples of the last 15 minutes: what they have, how many are kept, and what they cost."""

from __future__ import annotations

import sys
from math import isnan

from pubsub.core.losses import Loss
from pubsub.http.metrics import SOURCES
from pubsub.metrics.samples import ARRIVAL_SEC, COLUMNS, KEPT, Samples
from pubsub.websocket.ending import Ending
from tests.harness import Server, on_one_loop, run_server


class Times:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.uptime = 0.0


def samples_of(server: Server, times: Times) -> Samples:
    return Samples(server.app[SOURCES], lambda: times.now, lambda: times.uptime)


@on_one_loop
async def test_rates_come_from_the_time_between_two_samples() -> None:
    times = Times()
    async with run_server() as server, server.client("alice") as alice:
        samples = samples_of(server, times)
        await server.create("orders")
        await alice.subscribe("orders", client_id="alice")
        await samples.take()
        times.now += 4
        server.publish_locally("orders", [1] * 20)
        await alice.sync()
        await samples.take()
    assert samples.rate("published") == [0.0, 5.0]
    assert samples.rate("delivered") == [0.0, 5.0]
    assert samples.column("at") == [1000.0, 1004.0]
    assert samples.column("connections") == [1, 1]
    assert samples.column("memory")[-1] > 1 << 20
    p50, p99 = samples.column("p50")[-1], samples.column("p99")[-1]
    assert isnan(p50) or 0 <= p50 <= p99


@on_one_loop
async def test_losses_and_endings_are_those_of_the_samples_that_are_kept() -> None:
    async with run_server() as server:
        samples = samples_of(server, Times())
        losses, departures = server.app[SOURCES].broker.losses, server.app[SOURCES].services.departures
        losses.counts[Loss.OVERFLOW] = 5
        await samples.take()
        losses.counts[Loss.OVERFLOW] = 12
        departures.counts["websocket", Ending.SILENT] += 1
        departures.counts["sse", Ending.SILENT] += 1
        await samples.take()
        assert samples.grown("lost ") == {"overflow": 7}
        assert samples.grown("ended ") == {"silent": 2}
        for _ in range(KEPT):
            await samples.take()
        assert samples.grown("lost ") == samples.grown("ended ") == {}


@on_one_loop
async def test_samples_are_bounded() -> None:
    async with run_server() as server:
        samples = samples_of(server, Times())
        for _ in range(KEPT + 5):
            await samples.take()
    assert len(samples.rows) == KEPT == 181
    assert all(len(row) == len(COLUMNS) for row in samples.rows)
    assert sum(sys.getsizeof(row) for row in samples.rows) < 100 * 1024


@on_one_loop
async def test_connections_of_a_deployment_are_those_that_subscribe_in_its_first_minutes() -> None:
    times = Times()
    async with run_server() as server:
        samples = samples_of(server, times)
        async with server.client("alice") as alice:
            await server.create("orders")
            ack = await alice.subscribe("orders", client_id="alice")
            position = {"epoch": ack["epoch"], "seq": 0}
        async with server.client("alice") as alice:
            await alice.subscribe("orders", client_id="alice", resume={"orders": position})
            await alice.subscribe("orders", client_id="alice", resume={"orders": position | {"epoch": "another"}})
        headers = {"Last-Event-ID": f"{ack['epoch']}:0"}
        async with server.client("publisher"), server.http.get("/topics/orders/events", headers=headers):
            await samples.take()
            early = samples.arrivals
            times.uptime = ARRIVAL_SEC + 1
        async with server.client("late") as late:
            await late.subscribe("orders", client_id="late")
            await samples.take()
    assert (early.moved, early.new, early.recovered, early.told) == (2, 1, 2, 1)
    assert samples.arrivals == early


@on_one_loop
async def test_the_server_takes_its_first_sample_at_once() -> None:
    async with run_server() as server:
        found = await server.get("/admin/overview")
    assert len(found["series"]["at"]) == 1
