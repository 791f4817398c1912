"""Comparison of this server with the floor, with the best peers and with the aims, as tables in Markdown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from plot import number
from results import Results

OURS, FLOOR = "ours", "floor"
OWN = frozenset({OURS, "guarded", "ours-durable"})
"""This server with different settings: it does not count as its own peer."""
SAME_WORK = frozenset({"go", "baseline"})
"""Peers that parse, check, number and acknowledge each message, and keep it, as this server does."""
FLOOR_AIM = 1.35
"""The aim for 10 and more subscribers, as a multiple of the floor."""


@dataclass(frozen=True, slots=True)
class Aim:
    """An upper limit for one figure of the peer named `of`."""

    text: str
    cell: str
    figure: str
    limit: float
    of: str = OURS


AIMS = (
    Aim("p99 latency at 100 subscribers, undisturbed, microseconds", "100 subscribers at 100/s", "p99_us", 1000),
    Aim("CPU seconds for a million acknowledged publishes", "1x100", "cpu_s_per_million", 6),
    Aim("CPU seconds for 10,000 connects", "10000 connections", "connect_cpu_s", 3),
    Aim("KiB for a connection", "10000 connections", "rss_kib_per_connection", 2.5),
    Aim("MiB with 10,000 idle subscribers", "10000 connections", "rss_mib", 65),
    Aim("MiB of the empty server", "10000 connections", "empty_rss_mib", 38),
)


def standing(results: Results) -> Iterator[str]:
    yield from _aim_lines(results)
    yield from _fanout_lines(results)


def _aim_lines(results: Results) -> Iterator[str]:
    measured = [(aim, results.spread(aim.cell, aim.of, aim.figure)) for aim in AIMS]
    if any(spread for _, spread in measured):
        yield from ("", "### Aims", "", "| | aim | measured | |", "|---|---|---|---|")
    for aim, spread in measured:
        if spread:
            verdict = "reached" if spread.median <= aim.limit else f"{spread.median / aim.limit:.2f} times the aim"
            yield f"| {aim.text} | {number(aim.limit)} | {number(spread.median)} | {verdict} |"


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
