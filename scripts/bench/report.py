"""Renders the results of a run: tables in Markdown and plots in SVG."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from comparison import comparison
from plot import Bar, bar_chart, line_chart, number
from results import Results
from standing import standing

REFERENCE = "ours"
"""The peer with which the others are compared."""
FIGURES_HEADING = "## The figures\n"


def figure_text(results: Results, cell: str, peer: str, figure: str) -> str:
    """Render the median, and the lowest and highest of several values; a star says that other programs used CPU."""
    spread = results.spread(cell, peer, figure)
    failed = "failed" if (cell, peer) in results.failures else ""
    if spread is None:
        return failed
    text = number(spread.median)
    if spread.low != spread.high:
        text += f" ({number(spread.low)} to {number(spread.high)})"
    return f"{text}{'*' * results.disturbed(cell, peer)} {failed}".strip().replace("*", r"\*")


def multiple_text(results: Results, cell: str, peer: str, figure: str) -> str:
    own, spread = results.spread(cell, REFERENCE, figure), results.spread(cell, peer, figure)
    return f"{spread.median / own.median:.2f}" if own and spread else ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of all cells of a group. `figures` has the heading of each figure's column, after the cell's name."""

    title: str
    group: str
    figures: Mapping[str, str]
    text: Callable[[Results, str, str, str], str] = figure_text


TABLES = (
    Table(
        "CPU seconds of the server for a million deliveries, subscribers x messages in flight",
        "fanout",
        {"cpu_s_per_million": ""},
    ),
    Table("The same in multiples of ours", "fanout", {"cpu_s_per_million": ""}, multiple_text),
    Table("Deliveries a second, subscribers x messages in flight", "fanout", {"deliveries_per_s": ""}),
    Table(
        "Latency in microseconds, from the time at which a message was due",
        "latency",
        {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9", "max_us": "max", "latest_send_us": "load late by"},
    ),
    Table(
        "Latency in microseconds, while another client sends bad tokens or keys as fast as they are refused",
        "flood",
        {"p50_us": "p50", "p99_us": "p99", "max_us": "max", "refused_per_s": "refused a second"},
    ),
    Table(
        "Acknowledged publishes, connections x messages in flight",
        "publish",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "Acknowledged publishes that are on disk, one connection",
        "durable",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "Connecting and subscribing",
        "connect",
        {"connect_s": "seconds", "connect_cpu_s": "CPU seconds", "connects_per_s": "a second"},
    ),
    Table(
        "Memory, and CPU of the server while its clients are idle",
        "connect",
        {
            "rss_kib_per_connection": "KiB each",
            "rss_mib": "MiB in all",
            "empty_rss_mib": "MiB empty",
            "idle_cpu_percent": "% of a core",
        },
    ),
    Table(
        "Acknowledged publishes beside 10,000 idle subscriptions, one connection, 100 in flight",
        "beside",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "Filters, 20 messages in flight; an evaluation with its delivery, where each subscriber has its own filter",
        "filters",
        {"cpu_s_per_million": "CPU seconds for a million deliveries", "us_per_evaluation": "µs for an evaluation"},
    ),
    Table(
        "Server-Sent Events, subscribers x messages in flight",
        "streams",
        {"cpu_s_per_million": "CPU seconds for a million deliveries", "deliveries_per_s": "deliveries a second"},
    ),
    Table(
        "Payloads of 1 KiB for subscribers that offer permessage-deflate, or not; 20 messages in flight",
        "deflate",
        {
            "cpu_s_per_million": "CPU seconds for a million deliveries",
            "bytes_per_delivery": "bytes received for a delivery",
            "deliveries_per_s": "deliveries a second",
        },
    ),
    Table(
        "Idle clients of Server-Sent Events",
        "idle streams",
        {
            "rss_kib_per_connection": "KiB each",
            "rss_mib": "MiB in all",
            "connect_cpu_s": "CPU seconds to connect",
            "idle_cpu_percent": "% of a core",
        },
    ),
    Table(
        "CPU seconds for a million deliveries to 10 subscribers, 20 in flight, beside idle topics",
        "topics",
        {"cpu_s_per_million": ""},
    ),
    Table(
        "CPU seconds for a million deliveries to 10 subscribers, 20 in flight, beside idle subscribers",
        "idle",
        {"cpu_s_per_million": ""},
    ),
)

BAR_CHARTED = (
    ("latency", "p99_us", "p99 latency, microseconds"),
    ("publish", "cpu_s_per_million", "CPU seconds for a million acknowledged publishes"),
    ("durable", "publishes_per_s", "Acknowledged publishes a second that are on disk"),
    ("connect", "rss_kib_per_connection", "KiB for each connection"),
)
LINE_CHARTED = (
    ("fanout", "cpu_s_per_million", "CPU seconds for a million deliveries, subscribers x in flight"),
    ("topics", "cpu_s_per_million", "CPU seconds for a million deliveries, beside so many idle topics"),
    ("idle", "cpu_s_per_million", "CPU seconds for a million deliveries, beside so many idle subscribers"),
)


def markdown(results: Results) -> str:
    about = [f"- {key}: {value}" for key, value in results.about.items()]
    tables = [line for table in TABLES for line in _table_lines(results, table)]
    return "\n".join([*about, *comparison(results), *standing(results), *tables, "", *_notes(results), ""])


def write_into(page: Path, results: Results) -> None:
    """Put the tables of a run after the heading of the figures, in place of the old ones."""
    prose, heading, _ = page.read_text().partition(FIGURES_HEADING)
    page.write_text(f"{prose}{heading or FIGURES_HEADING}\n{markdown(results)}")


def write_plots(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for group, figure, title in BAR_CHARTED:
        for cell in _cells(results, group, figure):
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{group} {cell}")
            (folder / f"{name}.svg").write_text(bar_chart(f"{title} ({cell})", _bars(results, cell, figure)))
    for group, figure, title in LINE_CHARTED:
        if cells := _cells(results, group, figure):
            (folder / f"{group}.svg").write_text(line_chart(title, cells, _lines(results, cells, figure)))


def _cells(results: Results, group: str, figure: str) -> list[str]:
    """Return the cells of the group in which at least one peer has this figure."""
    names = [cell.name for cell in results.cells if cell.group == group]
    return [name for name in names if any(results.spread(name, peer, figure) for peer in results.peers)]


def _bars(results: Results, cell: str, figure: str) -> list[Bar]:
    spreads = {peer: results.spread(cell, peer, figure) for peer in results.peers}
    bars = [Bar(peer, spread.median, spread.low, spread.high) for peer, spread in spreads.items() if spread]
    return sorted(bars, key=lambda bar: bar.median)


def _lines(results: Results, cells: list[str], figure: str) -> dict[str, list[float | None]]:
    def median(cell: str, peer: str) -> float | None:
        spread = results.spread(cell, peer, figure)
        return spread.median if spread else None

    return {peer: [median(cell, peer) for cell in cells] for peer in results.peers}


def _table_lines(results: Results, table: Table) -> Iterator[str]:
    in_group = [cell.name for cell in results.cells if cell.group == table.group]
    columns = [(c, f) for c in in_group for f in table.figures if c in _cells(results, table.group, f)]
    if columns:
        yield from ("", f"### {table.title}", "")
        yield "| | " + " | ".join(f"{cell} {table.figures[figure]}".strip() for cell, figure in columns) + " |"
        yield "|---|" + "---|" * len(columns)
        for peer in results.peers:
            texts = [table.text(results, cell, peer, figure) for cell, figure in columns]
            if any(texts):
                yield f"| {peer} | " + " | ".join(texts) + " |"


def _notes(results: Results) -> Iterator[str]:
    yield from (f"- {name}: {title}" for name, title in results.peers.items())
    yield from (f"- {name} is missing: {reason}" for name, reason in results.missing.items())
    for (cell, peer), reasons in results.failures.items():
        yield f"- {peer} failed at {cell} in {len(reasons)} of its runs: {reasons[0]}"
    if any(results.disturbed(*place) for place in results.samples):
        yield r"- \* disturbed: other programs used CPU in at least one of the runs"
