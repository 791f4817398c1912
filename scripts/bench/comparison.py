"""Comparison of this server with one of its commits, in the same rounds: the cells that differ beyond their spread."""

from collections.abc import Iterator

from catalog import BEFORE
from plot import number
from results import Results, Spread

COSTS = {
    "cpu_s_per_million": "CPU seconds for a million",
    "us_per_evaluation": "µs for an evaluation",
    "p50_us": "p50, µs",
    "p99_us": "p99, µs",
    "connect_cpu_s": "CPU seconds to connect",
    "rss_kib_per_connection": "KiB for a connection",
    "empty_rss_mib": "MiB of the empty server",
    "idle_cpu_percent": "% of a core while idle",
}
"""The figures that are compared: a lower one is better, and it depends little on the speed of the load generator."""
SAMPLES = 3
"""The least number of rounds in which two ranges that do not overlap mean something."""


def comparison_lines(results: Results) -> Iterator[str]:
    pairs = [(name.replace("before", "ours"), name) for name in results.peers if name in BEFORE]
    rows = [row for cell in results.cells for pair in pairs for row in _rows(results, cell.name, *pair)]
    if rows:
        yield from (
            "| cell | | lowest before | lowest now | median before | median now | |",
            "|---|---|---|---|---|---|---|",
        )
        yield from rows


def _rows(results: Results, cell: str, ours: str, before: str) -> Iterator[str]:
    for figure, heading in COSTS.items():
        old, new = results.spread(cell, before, figure), results.spread(cell, ours, figure)
        if old is not None and new is not None:
            samples = min(len(results.samples[cell, peer]) for peer in (ours, before))
            texts = [cell, heading, *map(number, (old.low, new.low, old.median, new.median))]
            yield f"| {' | '.join([*texts, verdict(old, new, samples)])} |"


def verdict(old: Spread, new: Spread, samples: int) -> str:
    """Say by how much the medians differ, if no sample of one is in the range of the other's."""
    if samples < SAMPLES:
        return "too few rounds"
    if old.low <= new.high and new.low <= old.high:
        return "within the spread"
    if not old.median:
        return "**more**"
    change = 100 * (new.median / old.median - 1)
    return f"**{abs(change):.0f} % {'more' if change > 0 else 'less'}**"
