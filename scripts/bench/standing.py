"""Comparison of this server with the floor, with the best peers and with the aims, as rows of Markdown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from catalog import BEFORE
from plot import number
from results import Results

OURS, FLOOR = "ours", "floor"
OWN = frozenset({OURS, "guarded", "ours-durable", "ours-deflate"}) | BEFORE
"""This server with different settings: it does not count as its own peer."""
SAME_WORK = frozenset({"go", "baseline"})
"""Peers that parse, check, number and acknowledge each message, and keep it, as this server does."""
FLOOR_AIM = 1.35
"""The aim for 10 and more subscribers, as a multiple of the floor."""
BEST = "the best peer"


@dataclass(frozen=True, slots=True)
class Aim:
    """An upper limit for one figure of the peer named `of`; a lower one if `least`.

    With `than` or `beside` it is in multiples of the figure of that cell, or of that peer.
    """

    text: str
    cell: str
    figure: str
    limit: float
    of: str = OURS
    than: str = ""
    beside: str = ""
    least: bool = False

    def measure(self, results: Results) -> float | None:
        """Return the median, or the ratio of two; None if it was not measured."""
        spread = results.spread(self.cell, self.of, self.figure)
        if spread is None:
            return None
        if not (self.than or self.beside):
            return spread.median
        other = self._other(results)
        return spread.median / other if other else None

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def _other(self, results: Results) -> float | None:
        peers = peers_of(results) if self.beside == BEST else [self.beside or self.of]
        spreads = [results.spread(self.than or self.cell, peer, self.figure) for peer in peers]
        return min((spread.median for spread in spreads if spread), default=None)


def peers_of(results: Results) -> list[str]:
    return [peer for peer in results.peers if peer not in OWN and peer != FLOOR]


PER_MILLION, LATENCY = "cpu_s_per_million", "100 subscribers at 100/s"
AIMS = (
    Aim("CPU seconds for a million acknowledged publishes", "1x100", PER_MILLION, 3),
    Aim("acknowledged publishes a second, one connection", "1x100", "publishes_per_s", 300_000, least=True),
    Aim("CPU seconds for a million deliveries to one subscriber, 20 in flight", "1x20", PER_MILLION, 4),
    Aim("CPU of 10x20, in multiples of nats", "10x20", PER_MILLION, 1, beside="nats"),
    Aim("p99 latency at 100 subscribers, undisturbed, microseconds", LATENCY, "p99_us", 1000),
    Aim("the same in multiples of the best peer", LATENCY, "p99_us", 1, beside=BEST),
    Aim("MiB of the empty server", "10000 connections", "empty_rss_mib", 38),
    Aim("KiB for a connection", "10000 connections", "rss_kib_per_connection", 2.5),
    Aim("MiB with 10,000 idle subscribers", "10000 connections", "rss_mib", 65),
    Aim("CPU seconds for 10,000 connects", "10000 connections", "connect_cpu_s", 3),
    Aim(
        "durable publishes a second, 1 in flight, in multiples of SQLite alone",
        "1 in flight",
        "publishes_per_s",
        0.5,
        of="ours-durable",
        beside="sqlite",
        least=True,
    ),
    Aim(
        "the same, 512 in flight, in multiples of Redis Streams",
        "512 in flight",
        "publishes_per_s",
        1,
        of="ours-durable",
        beside="redis-streams",
        least=True,
    ),
    Aim(
        "CPU of 100x20 over Server-Sent Events, likewise of WebSocket",
        "100x20 streams",
        PER_MILLION,
        1.15,
        than="100x20",
    ),
    Aim("CPU of 1000x20, likewise", "1000x20 streams", PER_MILLION, 1.15, than="1000x20"),
    Aim("KiB for an idle client of Server-Sent Events", "10000 streams", "rss_kib_per_connection", 4),
    Aim(
        "CPU of a publish beside 10,000 patterns, in multiples of one alone",
        "10000 patterns",
        PER_MILLION,
        1.05,
        than="no other subscription",
    ),
    Aim("the same beside 10,000 other topics", "10000 other topics", PER_MILLION, 1.05, than="no other subscription"),
    *(
        Aim(
            f"{what} of {count} compressed subscribers, in multiples of plain ones",
            f"{count} compressed",
            figure,
            limit,
            of="ours-deflate",
            than=f"{count} plain",
        )
        for what, count, figure, limit in (
            ("CPU", 100, PER_MILLION, 2.0),
            ("CPU", 1000, PER_MILLION, 1.3),
            ("Bytes", 100, "bytes_per_delivery", 0.5),
        )
    ),
    Aim("µs for an evaluation, 200 filters", "200 subscribers, 200 filters", "us_per_evaluation", 6),
)


def aim_lines(results: Results) -> Iterator[str]:
    measured = [(aim, value) for aim in AIMS if (value := aim.measure(results)) is not None]
    if measured:
        yield from ("| | aim | measured | |", "|---|---|---|---|")
    for aim, value in measured:
        limit = f"at {'least' if aim.least else 'most'} {number(aim.limit)}"
        verdict = "reached" if aim.reached(value) else f"**{value / aim.limit:.2f} times the aim**"
        yield f"| {aim.text} | {limit} | {number(value)} | {verdict} |"


def fanout_lines(results: Results) -> Iterator[str]:
    rows = [row for cell in results.cells if cell.group == "fanout" and (row := _fanout_row(results, cell.name))]
    if rows:
        yield from ("| | ours / floor | ours / best peer | ours / best that does the same work |", "|---|---|---|---|")
        yield from rows


def _fanout_row(results: Results, cell: str) -> str:
    own = results.spread(cell, OURS, PER_MILLION)
    if own is None:
        return ""
    others = peers_of(results)
    columns = ([FLOOR], others, [peer for peer in others if peer in SAME_WORK])
    return f"| {cell} | " + " | ".join(_ratio(results, cell, own.median, peers) for peers in columns) + " |"


def _ratio(results: Results, cell: str, own: float, peers: Iterable[str]) -> str:
    """Render our figure divided by the lowest of the peers; bold if ours is lower, or close enough to the floor."""
    spreads = {peer: results.spread(cell, peer, PER_MILLION) for peer in peers}
    least, peer = min(((spread.median, peer) for peer, spread in spreads.items() if spread), default=(0.0, ""))
    if not least:
        return ""
    text = f"{own / least:.2f} {peer}" if peer != FLOOR else f"{own / least:.2f}"
    good = own <= FLOOR_AIM * least if peer == FLOOR else own < least
    return f"**{text}**" if good else text
