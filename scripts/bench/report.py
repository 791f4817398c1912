"""Renders the results of a run: tables in Markdown, each for a place in a page, and plots in SVG."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from comparison import comparison_lines
from costs import cost_lines, highlight_lines
from plot import Bar, bar_chart, line_chart, number
from results import Results
from standing import aim_lines, fanout_lines

REFERENCE = "ours"
"""The peer with which the others are compared."""
PLACE = re.compile(r"(?<=<!-- bench: )([\w-]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
"""A place for a part of the report in a page: its name, and what stands there."""


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
    return f"{spread.median / own.median:.2f}" if own and own.median and spread else ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of all cells of a group. `figures` has the heading of each figure's column, after the cell's name.

    `name`: of its place in a page.
    """

    name: str
    title: str
    group: str
    figures: Mapping[str, str]
    text: Callable[[Results, str, str, str], str] = figure_text


TABLES = (
    Table(
        "fanout",
        "CPU seconds of the server for a million deliveries, subscribers x messages in flight",
        "fanout",
        {"cpu_s_per_million": ""},
    ),
    Table("multiples", "The same in multiples of ours", "fanout", {"cpu_s_per_million": ""}, multiple_text),
    Table("rates", "Deliveries a second, subscribers x messages in flight", "fanout", {"deliveries_per_s": ""}),
    Table(
        "latency",
        "Latency in microseconds, from the time at which a message was due",
        "latency",
        {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9", "max_us": "max", "latest_send_us": "load late by"},
    ),
    Table(
        "flood",
        "Latency in microseconds, while another client sends bad tokens or keys as fast as they are refused",
        "flood",
        {"p50_us": "p50", "p99_us": "p99", "max_us": "max", "refused_per_s": "refused a second"},
    ),
    Table(
        "publishes",
        "Acknowledged publishes, connections x messages in flight",
        "publish",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "durable",
        "Acknowledged publishes that are on disk, one connection",
        "durable",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "connects",
        "Connecting and subscribing",
        "connect",
        {"connect_s": "seconds", "connect_cpu_s": "CPU seconds", "connects_per_s": "a second"},
    ),
    Table(
        "memory",
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
        "beside",
        "Acknowledged publishes beside 10,000 idle subscriptions, one connection, 100 in flight",
        "beside",
        {"publishes_per_s": "a second", "cpu_s_per_million": "CPU seconds for a million"},
    ),
    Table(
        "filters",
        "Filters, 20 messages in flight; an evaluation with its delivery, where each subscriber has its own filter",
        "filters",
        {"cpu_s_per_million": "CPU seconds for a million deliveries", "us_per_evaluation": "µs for an evaluation"},
    ),
    Table(
        "streams",
        "Server-Sent Events, subscribers x messages in flight",
        "streams",
        {"cpu_s_per_million": "CPU seconds for a million deliveries", "deliveries_per_s": "deliveries a second"},
    ),
    Table(
        "deflate",
        "Payloads of 1 KiB for subscribers that offer permessage-deflate, or not; 20 messages in flight",
        "deflate",
        {
            "cpu_s_per_million": "CPU seconds for a million deliveries",
            "bytes_per_delivery": "bytes received for a delivery",
            "deliveries_per_s": "deliveries a second",
        },
    ),
    Table(
        "idle-streams",
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
        "topics",
        "CPU seconds for a million deliveries to 10 subscribers, 20 in flight, beside idle topics",
        "topics",
        {"cpu_s_per_million": ""},
    ),
    Table(
        "idle",
        "CPU seconds for a million deliveries to 10 subscribers, 20 in flight, beside idle subscribers",
        "idle",
        {"cpu_s_per_million": ""},
    ),
    Table(
        "interpreters",
        "This server in several versions of Python",
        "interpreters",
        {
            "cpu_s_per_million": "CPU seconds for a million",
            "connect_cpu_s": "CPU seconds",
            "rss_kib_per_connection": "KiB each",
            "empty_rss_mib": "MiB empty",
        },
    ),
    Table(
        "servers",
        "Two servers on one Redis, messages of 200 bytes",
        "servers",
        {
            "publishing_us": "µs at the publisher's server",
            "receiving_us": "µs at the other server",
            "redis_us": "µs in Redis",
            "p50_ms": "p50, ms",
            "p99_ms": "p99, ms",
        },
    ),
    Table(
        "watched",
        "With a scrape of the metrics and a look at the dashboard each second",
        "watched",
        {"cpu_s_per_million": "CPU seconds for a million", "scrapes_per_s": "scrapes a second"},
    ),
)

BAR_CHARTED = (
    ("latency", "p99_us", "p99 latency, microseconds"),
    ("publish", "cpu_s_per_million", "CPU seconds for a million acknowledged publishes"),
    ("durable", "publishes_per_s", "Acknowledged publishes a second that are on disk"),
    ("connect", "rss_kib_per_connection", "KiB for each connection"),
)
HEADLINE = "CPU seconds of the server for a million deliveries: lower is better"
HEADLINE_CELLS = {f"{count}x20": f"{count:,}" for count in (1, 10, 100, 1000)}
HEADLINE_PEERS = {
    REFERENCE: "pubsub",
    "socketify": "uWebSockets",
    "redis": "Redis pub/sub",
    "nats": "NATS",
    "ws": "ws (Node)",
    "go": "Go, gorilla",
    "nchan": "Nchan (nginx)",
    "baseline": "aiohttp, usual way",
    "socketio": "python-socketio",
}
"""The one plot for the first page: its cells and peers, and what they are called there."""


def all_parts(results: Results) -> dict[str, tuple[str, Iterator[str]]]:
    """Return the title and the lines of each part of the report, by name."""
    return {
        "about": ("The run", (f"- {key}: {value}" for key, value in results.about.items())),
        "before": ("This version and the one before", comparison_lines(results)),
        "highlights": ("In short", highlight_lines(results)),
        "aims": ("Aims", aim_lines(results)),
        "costs": ("What each feature costs", cost_lines(results)),
        "standing": ("CPU for a delivery, beside the floor and the best of the peers", fanout_lines(results)),
        **{table.name: (table.title, _table_lines(results, table)) for table in TABLES},
        "notes": ("Notes", _notes(results)),
    }


def parts(results: Results) -> dict[str, tuple[str, list[str]]]:
    """Return those parts that this run has figures for."""
    listed = {name: (title, list(lines)) for name, (title, lines) in all_parts(results).items()}
    return {name: (title, lines) for name, (title, lines) in listed.items() if lines}


def markdown(results: Results) -> str:
    return "\n".join(line for title, lines in parts(results).values() for line in (f"### {title}", "", *lines, ""))


def write_into(page: Path, results: Results) -> None:
    """Put each part of the report into its place in the page, between two comments. The rest stays as it is."""
    found = parts(results)

    def fill(place: re.Match[str]) -> str:
        if place[1] not in found:
            return place[0]
        return f"{place[1]}{place[2]}\n" + "\n".join(found[place[1]][1]) + "\n\n"

    page.write_text(PLACE.sub(fill, page.read_text()))


def write_plots(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for group, figure, title in BAR_CHARTED:
        for cell in _cells(results, group, figure):
            name = "".join(letter if letter.isalnum() else "-" for letter in f"{group} {cell}")
            (folder / f"{name}.svg").write_text(bar_chart(f"{title} ({cell})", _bars(results, cell, figure)))
    if lines := _headline(results):
        axis = "subscribers of a topic, 20 messages in flight"
        (folder / "fanout.svg").write_text(line_chart(HEADLINE, axis, list(HEADLINE_CELLS.values()), lines))


def _headline(results: Results) -> dict[str, list[float | None]]:
    def median(cell: str, peer: str) -> float | None:
        spread = results.spread(cell, peer, "cpu_s_per_million")
        return spread.median if spread else None

    lines = {name: [median(cell, peer) for cell in HEADLINE_CELLS] for peer, name in HEADLINE_PEERS.items()}
    return {name: line for name, line in lines.items() if any(line)}


def _cells(results: Results, group: str, figure: str) -> list[str]:
    """Return the cells of the group in which at least one peer has this figure."""
    names = [cell.name for cell in results.cells if cell.group == group]
    return [name for name in names if any(results.spread(name, peer, figure) for peer in results.peers)]


def _bars(results: Results, cell: str, figure: str) -> list[Bar]:
    spreads = {peer: results.spread(cell, peer, figure) for peer in results.peers}
    bars = [Bar(peer, spread.median, spread.low, spread.high) for peer, spread in spreads.items() if spread]
    return sorted(bars, key=lambda bar: bar.median)


def _table_lines(results: Results, table: Table) -> Iterator[str]:
    in_group = [cell.name for cell in results.cells if cell.group == table.group]
    columns = [(c, f) for c in in_group for f in table.figures if c in _cells(results, table.group, f)]
    if columns:
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
