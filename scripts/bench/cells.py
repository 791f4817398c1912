"""The cells of the benchmark, each one measurement, and the functions that measure one cell with one peer."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import machine
from catalog import ALONE, ON_DISK, Launch, Peer
from processes import Failed, Load, run_alone, running_flood, running_load, running_server

SETTLE_SECONDS = 1.0
"""Pause between the last connect and the memory reading: the server frees what it needed only for connecting."""
DISTURBED_ABOVE = 0.05
"""Cores used by other programs during a measurement: above this, its figures are marked as disturbed."""
CONNECT_SECONDS = 120
IDLE_SUBSCRIPTIONS = 10_000
HOLDERS = 100
"""Clients that hold them: so few that their heartbeats add nothing to a measurement."""
COMPRESSED_BYTES = 1024 + 139
"""Size of an event with a payload of 1 KiB, in this server's format; other peers deliver payloads of this size."""
IDLE_SECONDS = 5
"""Time during which clients stay idle while the server's CPU is measured; heartbeats (every 30 s) are spread evenly."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """The load generator's program, the two cores, and the folder for durable cells."""

    load_program: Path
    server_core: int
    load_core: int
    disk: Path

    def disk_for(self, cell: "Cell") -> Path | None:
        """Return the folder to which a durable cell writes, the same disk for all peers; None for other cells."""
        if cell.group not in ON_DISK:
            return None
        if machine.is_in_memory(self.disk):
            raise Failed("its folder is in memory: --cache names one on a disk")
        return self.disk


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement, in every round or `once`. `topics` and `idle` count topics and subscribers without messages.

    `flood`: the way in which another client sends bad tokens meanwhile. `beside`: the name of so many more idle
    subscriptions, `IDLE_SUBSCRIPTIONS`. `streams`: the subscribers get Server-Sent Events.
    """

    group: str
    name: str
    mode: str
    options: Mapping[str, float] = field(default_factory=dict)
    topics: int = 0
    idle: int = 0
    beside: str = ""
    flood: str = ""
    streams: bool = False
    hold_seconds: float = 0
    once: bool = False

    def dialect(self, peer: Peer) -> str:
        return f"{peer.dialect}-sse" if self.streams else peer.dialect

    @property
    def load_options(self) -> Mapping[str, float]:
        """The options of the load generator, which polls instead of sleeping.

        A server pays for each write that wakes a sleeping load generator, and a fast server wakes it most often. It
        sleeps in the group flood, where another program needs its core, and in the mode connect, with idle clients.
        """
        return self.options if self.group == "flood" or self.mode == "connect" else {**self.options, "sleep": 0}


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one measurement. `disturbance`: cores used by other programs meanwhile."""

    figures: Figures
    disturbance: float


class Meter:
    """CPU time that the server and other programs have used since the meter was made or last reset."""

    def __init__(self, server: int, load: int) -> None:
        self.server, self.load = server, load
        self.reset()

    def reset(self) -> None:
        self._server, self._load, self._busy, self._time = self._read()

    def server_seconds(self) -> float:
        return machine.cpu_seconds(self.server) - self._server

    def elapsed(self) -> float:
        return time.monotonic() - self._time

    def disturbance(self) -> float:
        server, load, busy, now = self._read()
        others = (busy - self._busy) - (server - self._server) - (load - self._load)
        return max(0.0, others / (now - self._time))

    def _read(self) -> tuple[float, float, float, float]:
        server, load = machine.cpu_seconds(self.server), machine.cpu_seconds(self.load)
        return server, load, machine.busy_seconds(), time.monotonic()


def take_sample(bench: Bench, cell: Cell, peer: Peer, launch: Launch) -> Sample:
    """Measure one cell with a new server process, so that no earlier sample has an effect."""
    disk = bench.disk_for(cell)
    if peer.dialect == ALONE:
        assert disk is not None, "such a peer takes part only in durable cells"
        return take_sample_alone(bench, cell, launch, disk)
    with ExitStack() as stack:
        server, port = stack.enter_context(running_server(launch, bench.server_core, disk))
        common = {"port": port, "dialect": cell.dialect(peer), **launch.load_options}

        def start_load(mode: str, options: Mapping[str, object]) -> Load:
            load = stack.enter_context(running_load(bench.load_program, bench.load_core, mode, {**common, **options}))
            load.read()
            return load

        if cell.topics:
            create_topics(peer, port, cell.topics)
        if cell.idle:
            connect_all(start_load("connect", {"topic": "idle", "subscribers": cell.idle, "seconds": CONNECT_SECONDS}))
        if cell.beside:
            each = {"names": cell.beside, "each": IDLE_SUBSCRIPTIONS // HOLDERS}
            connect_all(start_load("connect", {**each, "subscribers": HOLDERS, "seconds": CONNECT_SECONDS}))
        load = start_load(cell.mode, cell.load_options)
        flood = stack.enter_context(running_flood(cell.flood, port, bench.load_core)) if cell.flood else None
        meter = Meter(server, load.process.pid)
        figures = FIGURES[cell.mode](load, meter, cell)
        if flood is not None:
            figures["refused_per_s"] = flood.end() / meter.elapsed()
        return Sample(figures, meter.disturbance())


def connect_all(load: Load) -> None:
    """Connect idle subscribers, which stay until the end of the sample."""
    load.resume()
    load.read()


def take_sample_alone(bench: Bench, cell: Cell, launch: Launch, disk: Path) -> Sample:
    busy, start = machine.busy_seconds(), time.monotonic()
    result = run_alone(launch, bench.server_core, disk, cell.options["window"], cell.options["seconds"])
    others = machine.busy_seconds() - busy - result["cpu_s"]
    figures = {
        "cpu_s_per_million": 1e6 * result["cpu_s"] / result["messages"],
        "publishes_per_s": result["messages_per_s"],
    }
    return Sample(figures, max(0.0, others / (time.monotonic() - start)))


def create_topics(peer: Peer, port: int, count: int) -> None:
    if peer.dialect != "pubsub":
        raise Failed("it has no call that makes topics")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(count):
        connection.request("POST", "/topics", json.dumps({"name": f"idle-{number}"}))
        connection.getresponse().read()
    connection.close()


def fanout_figures(load: Load, meter: Meter, cell: Cell) -> Figures:
    load.resume()
    result = load.read()
    seconds = meter.server_seconds()
    figures = {
        "cpu_s_per_million": 1e6 * seconds / result["deliveries"],
        "deliveries_per_s": result["deliveries_per_s"],
    }
    if cell.group == "deflate":
        figures["bytes_per_delivery"] = result["received_bytes"] / result["deliveries"]
    if cell.options.get("deflate") and result["compressed"] < result["deliveries"]:
        raise Failed(f"it compressed {result['compressed']} of {result['deliveries']} deliveries")
    if cell.options.get("filters") == cell.options["subscribers"]:
        figures["us_per_evaluation"] = 1e6 * seconds / result["deliveries"]
    return figures


def publish_figures(load: Load, meter: Meter, _cell: Cell) -> Figures:
    load.resume()
    result = load.read()
    return {
        "cpu_s_per_million": 1e6 * meter.server_seconds() / result["messages"],
        "publishes_per_s": result["messages_per_s"],
    }


def latency_figures(load: Load, _meter: Meter, _cell: Cell) -> Figures:
    load.resume()
    result = load.read()
    return {name: result[name] for name in ("p50_us", "p99_us", "p999_us", "max_us", "latest_send_us")}


def connect_figures(load: Load, meter: Meter, cell: Cell) -> Figures:
    empty = machine.memory(meter.server)
    load.resume()
    load.read()
    connecting = meter.server_seconds()
    time.sleep(SETTLE_SECONDS)
    full = machine.memory(meter.server)
    idle_share = measure_idle(meter, cell.hold_seconds)
    load.resume()
    result = load.read()
    return {
        "connects_per_s": result["connects_per_s"],
        "connect_s": result["seconds"],
        "connect_cpu_s": connecting,
        "empty_rss_mib": empty.rss / 1024,
        "rss_mib": full.rss / 1024,
        "rss_kib_per_connection": (full.rss - empty.rss) / result["connected"],
        "pss_kib_per_connection": (full.pss - empty.pss) / result["connected"],
    } | idle_share


def measure_idle(meter: Meter, seconds: float) -> Figures:
    """Return the percentage of a core that the server uses while its clients only answer pings."""
    if not seconds:
        return {}
    before, start = meter.server_seconds(), time.monotonic()
    time.sleep(seconds)
    return {"idle_cpu_percent": 100 * (meter.server_seconds() - before) / (time.monotonic() - start)}


FIGURES: Mapping[str, Callable[[Load, Meter, Cell], Figures]] = {
    "fanout": fanout_figures,
    "latency": latency_figures,
    "publish": publish_figures,
    "connect": connect_figures,
}


def fanout(subscribers: int, window: int, seconds: float) -> Cell:
    options = {"subscribers": subscribers, "window": window, "seconds": seconds}
    return Cell("fanout", f"{subscribers}x{window}", "fanout", options)


def latency(subscribers: int, rate: int, seconds: float) -> Cell:
    options = {"subscribers": subscribers, "rate": rate, "seconds": seconds}
    return Cell("latency", f"{subscribers} subscribers at {rate}/s", "latency", options)


def publish(publishers: int, window: int, seconds: float) -> Cell:
    options = {"publishers": publishers, "window": window, "seconds": seconds}
    return Cell("publish", f"{publishers}x{window}", "publish", options)


def durable(window: int, seconds: float) -> Cell:
    """A publish cell for peers that acknowledge only messages on disk; this server with a topic in memory runs too."""
    return replace(publish(1, window, seconds), group="durable", name=f"{window} in flight")


def connect(subscribers: int, hold_seconds: float = 0) -> Cell:
    options = {"subscribers": subscribers, "seconds": CONNECT_SECONDS}
    return Cell("connect", f"{subscribers} connections", "connect", options, hold_seconds=hold_seconds)


def beside_topics(topics: int, seconds: float) -> Cell:
    return replace(fanout(10, 20, seconds), group="topics", name=f"{topics} topics", topics=topics)


def beside_idle(idle: int, seconds: float) -> Cell:
    return replace(fanout(10, 20, seconds), group="idle", name=f"{idle} idle", idle=idle)


def publish_beside(what: str, names: str, seconds: float) -> Cell:
    """A publish cell beside idle subscriptions to topics or patterns with these names, `#` being a number."""
    topics = IDLE_SUBSCRIPTIONS if names == "idle-#" else 0
    return replace(publish(1, 100, seconds), group="beside", name=what, beside=names, topics=topics)


def filtered(subscribers: int, filters: int, seconds: float) -> Cell:
    plain = fanout(subscribers, 20, seconds)
    name = f"{subscribers} subscribers, {filters} filter{'s' * (filters > 1)}"
    return replace(plain, group="filters", name=name, options={**plain.options, "filters": filters})


def streamed(subscribers: int, window: int, seconds: float) -> Cell:
    plain = fanout(subscribers, window, seconds)
    return replace(plain, group="streams", name=f"{plain.name} streams", streams=True)


def compressed(subscribers: int, seconds: float, *, deflate: bool) -> Cell:
    """A fan-out of payloads of 1 KiB, with rows of JSON. `deflate`: the subscribers offer compression."""
    plain = fanout(subscribers, 20, seconds)
    options = {**plain.options, "event-bytes": COMPRESSED_BYTES, "rows": 1, "deflate": int(deflate)}
    name = f"{subscribers} {'compressed' if deflate else 'plain'}"
    return replace(plain, group="deflate", name=name, options=options)


def idle_streams(subscribers: int, hold_seconds: float) -> Cell:
    plain = connect(subscribers, hold_seconds)
    return replace(plain, group="idle streams", name=f"{subscribers} streams", streams=True)


def feature_cells(seconds: float) -> list[Cell]:
    """Cells for the cost of patterns, filters, Server-Sent Events and compression."""
    return [
        publish_beside("no other subscription", "", seconds),
        publish_beside("10000 patterns", "idle.#.*", seconds),
        publish_beside("10000 other topics", "idle-#", seconds),
        filtered(1000, 1, seconds),
        filtered(200, 1, seconds),
        filtered(200, 200, seconds),
        streamed(100, 20, seconds),
        streamed(1000, 20, seconds),
        *(compressed(count, seconds, deflate=deflate) for count in (100, 1000) for deflate in (False, True)),
        idle_streams(10000, IDLE_SECONDS),
    ]


def plain_and_feature_cells(seconds: float) -> list[Cell]:
    """The cells of the features, and those with which they are compared."""
    return [fanout(100, 20, seconds), fanout(1000, 20, seconds), *feature_cells(seconds)]


def full_cells(seconds: float) -> list[Cell]:
    grid = [fanout(subscribers, window, seconds) for subscribers in (1, 10, 100, 1000) for window in (1, 20, 200)]
    kept = [durable(window, seconds) for window in (512, 32, 1)]
    return [
        *grid,
        latency(100, 100, 3 * seconds),
        publish(1, 100, seconds),
        *kept,
        connect(1000),
        connect(10000, IDLE_SECONDS),
        *feature_cells(seconds),
    ]


def curve_cells(seconds: float) -> list[Cell]:
    """Cells for the cost that idle topics and idle subscribers add to a publish: it should be zero."""
    topics = [beside_topics(count, seconds) for count in (1, 10, 100, 1000, 10000)]
    return topics + [beside_idle(count, seconds) for count in (1, 10, 100, 1000, 10000)]


def flood_cells(seconds: float) -> list[Cell]:
    """Cells for the latency of other clients while one client sends bad tokens or keys as fast as they are refused."""
    calm = replace(latency(100, 100, 3 * seconds), group="flood", name="none")
    return [calm, *(replace(calm, name=f"by {way}", flood=way) for way in ("header", "message", "key"))]


def quick_cells() -> list[Cell]:
    """Cells that take about half a minute for each peer."""
    return [fanout(100, 20, 1), publish(1, 100, 1), replace(connect(10000, 5), once=True)]
