"""The cells of the benchmark: each one is a measurement, with its load and all that stands beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from catalog import SERVERS, Peer

COMMON_WINDOW = 20
"""Messages in flight in the cells that each peer runs."""
CONNECT_SECONDS = 120
IDLE_SUBSCRIPTIONS = 10_000
HOLDERS = 100
"""Clients that hold them: so few that their heartbeats add nothing to a measurement."""
COMPRESSED_BYTES = 1024 + 139
"""Size of an event with a payload of 1 KiB, in this server's format; other peers deliver payloads of this size."""
IDLE_SECONDS = 3
"""Time during which clients stay idle while the server's CPU is measured; heartbeats (every 30 s) are spread evenly."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement, in every round or `once`. `topics` and `idle` count topics and subscribers without messages.

    `flood`: the way in which another client sends bad tokens meanwhile. `beside`: the name of so many more idle
    subscriptions, `IDLE_SUBSCRIPTIONS`. `streams`: the subscribers get Server-Sent Events. `watched`: metrics and
    dashboard are asked for each second meanwhile. `common`: the peers take part that are not measured in each cell.
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
    watched: bool = False
    hold_seconds: float = 0
    once: bool = False
    common: bool = False

    def takes(self, peer: Peer) -> bool:
        """Return True if the peer takes part in this cell."""
        return self.group in peer.groups and (self.common or not peer.few)

    def dialect(self, peer: Peer) -> str:
        return f"{peer.dialect}-sse" if self.streams else peer.dialect

    @property
    def load_options(self) -> Mapping[str, float]:
        """The options of the load generator, which polls instead of sleeping.

        A server pays for each write that wakes a sleeping load generator, and a fast server wakes it most often. It
        sleeps in the group flood, where another program needs its core, and in the mode connect, with idle clients.
        """
        return self.options if self.group == "flood" or self.mode == "connect" else {**self.options, "sleep": 0}


def fanout(subscribers: int, window: int, seconds: float) -> Cell:
    options = {"subscribers": subscribers, "window": window, "seconds": seconds}
    return Cell("fanout", f"{subscribers}x{window}", "fanout", options, common=window == COMMON_WINDOW)


def latency(subscribers: int, rate: int, seconds: float) -> Cell:
    options = {"subscribers": subscribers, "rate": rate, "seconds": seconds}
    return Cell("latency", f"{subscribers} subscribers at {rate}/s", "latency", options, common=True)


def publish(publishers: int, window: int, seconds: float) -> Cell:
    options = {"publishers": publishers, "window": window, "seconds": seconds}
    return Cell("publish", f"{publishers}x{window}", "publish", options, common=True)


def durable(window: int, seconds: float) -> Cell:
    """A publish cell for peers that acknowledge only messages on disk; this server with a topic in memory runs too."""
    return replace(publish(1, window, seconds), group="durable", name=f"{window} in flight")


def connect(subscribers: int, hold_seconds: float = 0) -> Cell:
    options = {"subscribers": subscribers, "seconds": CONNECT_SECONDS}
    name = f"{subscribers} connections"
    return Cell("connect", name, "connect", options, hold_seconds=hold_seconds, common=True)


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


def watched(plain: Cell) -> Cell:
    return replace(plain, group="watched", name=f"{plain.name} watched", watched=True)


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
    """Cells for the cost of patterns, filters, Server-Sent Events, compression, metrics and the dashboard."""
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
        watched(fanout(100, 20, 6 * seconds)),
        watched(publish(1, 100, 6 * seconds)),
    ]


def plain_and_feature_cells(seconds: float) -> list[Cell]:
    """The cells of the features, and those with which they are compared."""
    plain = [fanout(100, 20, seconds), fanout(1000, 20, seconds), publish(1, 100, seconds)]
    return [*plain, *feature_cells(seconds)]


def full_cells(seconds: float) -> list[Cell]:
    windows = {1: (1, 20, 200), 10: (20, 200), 100: (20, 200), 1000: (1, 20, 200)}
    grid = [fanout(subscribers, window, seconds) for subscribers, each in windows.items() for window in each]
    kept = [durable(window, seconds) for window in (512, 1)]
    return [
        *grid,
        latency(100, 100, 3 * seconds),
        publish(1, 100, seconds),
        *kept,
        connect(10000, IDLE_SECONDS),
        *feature_cells(seconds),
    ]


def curve_cells(seconds: float) -> list[Cell]:
    """Cells for the cost that idle topics and idle subscribers add to a publish: it should be zero."""
    counts = (1, 100, 10000)
    return [beside(count, seconds) for beside in (beside_topics, beside_idle) for count in counts]


def flood_cells(seconds: float) -> list[Cell]:
    """Cells for the latency of other clients while one client sends bad tokens or keys as fast as they are refused."""
    calm = replace(latency(100, 100, 3 * seconds), group="flood", name="none")
    return [calm, *(replace(calm, name=f"by {way}", flood=way) for way in ("header", "message", "key"))]


def interpreter_cells(seconds: float) -> list[Cell]:
    """Cells for this server in several versions of Python."""
    cells = {
        "deliveries 10x20": fanout(10, 20, seconds),
        "publishes 1x100": publish(1, 100, seconds),
        "10000 connects": connect(10000),
    }
    return [replace(cell, group="interpreters", name=name) for name, cell in cells.items()]


def server_cells() -> list[Cell]:
    """Cells with several servers on one Redis, which cluster.py measures."""
    return [Cell(SERVERS, name, SERVERS) for name in ("1 a tick", "20 a tick", "as fast as it can", "across servers")]


def all_cells(seconds: float) -> list[Cell]:
    alone = [*full_cells(seconds), *curve_cells(seconds), *flood_cells(seconds), *interpreter_cells(seconds)]
    return [*alone, *server_cells()]


def quick_cells() -> list[Cell]:
    """Cells that take about half a minute for each peer."""
    return [fanout(100, 20, 1), publish(1, 100, 1), replace(connect(10000, 5), once=True)]
