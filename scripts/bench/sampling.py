"""Measures one cell with one peer: starts the server and the load, and makes figures of what both tell."""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import machine
from catalog import ALONE, ON_DISK, Launch, Peer
from cells import CONNECT_SECONDS, HOLDERS, IDLE_SUBSCRIPTIONS, Cell
from processes import Beside, Failed, Load, run_alone, running_beside, running_load, running_server

SETTLE_SECONDS = 1.0
"""Pause between the last connect and the memory reading: the server frees what it needed only for connecting."""
DISTURBED_ABOVE = 0.05
"""Cores used by other programs during a measurement: above this, its figures are marked as disturbed."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Bench:
    """The load generator's program, the two cores, and the folder for durable cells."""

    load_program: Path
    server_core: int
    load_core: int
    disk: Path

    def disk_for(self, cell: Cell) -> Path | None:
        """Return the folder to which a durable cell writes, the same disk for all peers; None for other cells."""
        if cell.group not in ON_DISK:
            return None
        if machine.is_in_memory(self.disk):
            raise Failed("its folder is in memory: --cache names one on a disk")
        return self.disk


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one measurement. `disturbance`: cores used by other programs meanwhile."""

    figures: Figures
    disturbance: float


class Meter:
    """CPU time that the server and other programs have used since the meter was made or last reset.

    `load`: the processes of the measurement beside the server.
    """

    def __init__(self, server: int, load: Sequence[int]) -> None:
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
        server, load = machine.cpu_seconds(self.server), sum(map(machine.cpu_seconds, self.load))
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
        beside = start_beside(stack, cell, port, bench.load_core)
        meter = Meter(server, [load.process.pid, *(each.process.pid for each in beside.values())])
        figures = FIGURES[cell.mode](load, meter, cell)
        disturbance, seconds = meter.disturbance(), meter.elapsed()
        return Sample(figures | {f"{what}_per_s": each.end() / seconds for what, each in beside.items()}, disturbance)


def start_beside(stack: ExitStack, cell: Cell, port: int, core: int) -> Mapping[str, Beside]:
    """Start what else asks the server during the measurement; by the name of what it counts."""
    beside: dict[str, Beside] = {}
    if cell.flood:
        beside["refused"] = stack.enter_context(running_beside("flood.py", [cell.flood, port], core, counted="refused"))
    if cell.watched:
        beside["scrapes"] = stack.enter_context(running_beside("watcher.py", [port], core, counted="scrapes"))
        beside["scrapes"].await_ready()
    return beside


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
