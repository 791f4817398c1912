"""Comparison of this server with the floor, with the best peers and with the aims, as tables in Markdown."""

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


@dataclass(frozen=True, slots=True)
class Aim:
    """An upper limit for one figure of the peer named `of`; with `than`, in multiples of the figure of that cell."""

    text: str
    cell: str
    figure: str
    limit: float
    of: str = OURS
    than: str = ""

    def measure(self, results: Results) -> float | None:
        """Return the median, or the ratio of two; None if it was not measured."""
        spread = results.spread(self.cell, self.of, self.figure)
        other = results.spread(self.than, self.of, self.figure)
        if spread is None or (self.than and other is None):
            return None
        return spread.median / other.median if other else spread.median


AIMS = (
    Aim("p99 latency at 100 subscribers, undisturbed, microseconds", "100 subscribers at 100/s", "p99_us", 1000),
    Aim("CPU seconds for a million acknowledged publishes", "1x100", "cpu_s_per_million", 6),
    Aim("CPU seconds for 10,000 connects", "10000 connections", "connect_cpu_s", 3),
    Aim("KiB for a connection", "10000 connections", "rss_kib_per_connection", 2.5),
    Aim("MiB with 10,000 idle subscribers", "10000 connections", "rss_mib", 65),
    Aim("MiB of the empty server", "10000 connections", "empty_rss_mib", 38),
    Aim(
        "CPU of 100x20 over Server-Sent Events, in multiples of WebSocket",
        "100x20 streams",
        "cpu_s_per_million",
        1.15,
        than="100x20",
    ),
    Aim(
        "CPU of 1000x20 over Server-Sent Events, in multiples of WebSocket",
        "1000x20 streams",
        "cpu_s_per_million",
        1.15,
        than="1000x20",
    ),
    Aim("KiB for an idle client of Server-Sent Events", "10000 streams", "rss_kib_per_connection", 4),
    Aim(
        "CPU of a publish beside 10,000 patterns, in multiples of one alone",
        "10000 patterns",
        "cpu_s_per_million",
        1.05,
        than="no other subscription",
    ),
    Aim(
        "CPU of a publish beside 10,000 subscriptions to other topics, likewise",
        "10000 other topics",
        "cpu_s_per_million",
        1.05,
        than="no other subscription",
    ),
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
            ("CPU", 100, "cpu_s_per_million", 2.0),
            ("CPU", 1000, "cpu_s_per_million", 1.3),
            ("Bytes", 100, "bytes_per_delivery", 0.5),
        )
    ),
    Aim("µs for an evaluation, 200 filters", "200 subscribers, 200 filters", "us_per_evaluation", 6),
)


def standing(results: Results) -> Iterator[str]:
    yield from _aim_lines(results)
    yield from _fanout_lines(results)


def _aim_lines(results: Results) -> Iterator[str]:
    measured = [(aim, value) for aim in AIMS if (value := aim.measure(results)) is not None]
    if measured:
        yield from ("", "### Aims", "", "| | aim | measured | |", "|---|---|---|---|")
    for aim, value in measured:
        verdict = "reached" if value <= aim.limit else f"{value / aim.limit:.2f} times the aim"
        yield f"| {aim.text} | {number(aim.limit)} | {number(value)} | {verdict} |"


def _fanout_lines(results: Results) -> Iterator[str]:
    rows = [row for cell in results.cells if cell.group == "fanout" and (row := _fanout_row(results, cell.name))]
    if rows:
        yield from ("", "### CPU for a delivery, beside the floor and the best of the peers", "")
        yield from ("| | ours / floor | ours / best peer | ours / best that does the same work |", "|---|---|---|---|")
        yield from rows


def _fanout_row(results: Results, cell: str) -> str:
    own = results.spread(cell, OURS, "cpu_s_per_million")
    if own is None:
        return ""
    others = [peer for peer in results.peers if peer not in OWN and peer != FLOOR]
    columns = ([FLOOR], others, [peer for peer in others if peer in SAME_WORK])
    return f"| {cell} | " + " | ".join(_ratio(results, cell, own.median, peers) for peers in columns) + " |"


def _ratio(results: Results, cell: str, own: float, peers: Iterable[str]) -> str:
    """Render our figure divided by the lowest of the peers; bold if ours is lower, or close enough to the floor."""
    spreads = {peer: results.spread(cell, peer, "cpu_s_per_million") for peer in peers}
    least, peer = min(((spread.median, peer) for peer, spread in spreads.items() if spread), default=(0.0, ""))
    if not least:
        return ""
    text = f"{own / least:.2f} {peer}" if peer != FLOOR else f"{own / least:.2f}"
    good = own <= FLOOR_AIM * least if peer == FLOOR else own < least
    return f"**{text}**" if good else text
