"""Tables about this server alone: what each feature costs, and the figures that the first page of the project shows."""

from collections.abc import Iterator
from dataclasses import dataclass

from plot import number
from results import Results
from standing import OURS

PER_MILLION, PER_CONNECTION = "cpu_s_per_million", "rss_kib_per_connection"


@dataclass(frozen=True, slots=True)
class Cost:
    """A figure of one cell and peer (`used`) beside that of another cell or peer (`plain`)."""

    text: str
    used: tuple[str, str]
    plain: tuple[str, str]
    figure: str = PER_MILLION


COSTS = (
    Cost("a million publishes beside 10,000 patterns", ("10000 patterns", OURS), ("no other subscription", OURS)),
    Cost(
        "a million publishes beside 10,000 other subscriptions",
        ("10000 other topics", OURS),
        ("no other subscription", OURS),
    ),
    Cost(
        "a million deliveries, one filter for 1,000 subscribers",
        ("1000 subscribers, 1 filter", OURS),
        ("1000x20", OURS),
    ),
    Cost(
        "a million deliveries, 200 filters for 200 subscribers, beside one filter",
        ("200 subscribers, 200 filters", OURS),
        ("200 subscribers, 1 filter", OURS),
    ),
    Cost("a million deliveries, 100 Server-Sent Events streams", ("100x20 streams", OURS), ("100x20", OURS)),
    Cost("a million deliveries, 1,000 Server-Sent Events streams", ("1000x20 streams", OURS), ("1000x20", OURS)),
    Cost(
        "KiB for an idle Server-Sent Events stream",
        ("10000 streams", OURS),
        ("10000 connections", OURS),
        PER_CONNECTION,
    ),
    Cost(
        "a million deliveries of 1 KiB, 100 subscribers, compressed",
        ("100 compressed", "ours-deflate"),
        ("100 plain", "ours-deflate"),
    ),
    Cost(
        "a million deliveries of 1 KiB, 1,000 subscribers, compressed",
        ("1000 compressed", "ours-deflate"),
        ("1000 plain", "ours-deflate"),
    ),
    Cost(
        "a million deliveries, metrics and dashboard asked for each second", ("100x20 watched", OURS), ("100x20", OURS)
    ),
    Cost("a million publishes, metrics and dashboard asked for each second", ("1x100 watched", OURS), ("1x100", OURS)),
    Cost("a million publishes with tokens, permissions, rates and quotas", ("1x100", "guarded"), ("1x100", OURS)),
    Cost(
        "10,000 connects with tokens, permissions, rates and quotas",
        ("10000 connections", "guarded"),
        ("10000 connections", OURS),
        "connect_cpu_s",
    ),
    Cost(
        "KiB for a connection with a token",
        ("10000 connections", "guarded"),
        ("10000 connections", OURS),
        PER_CONNECTION,
    ),
    Cost(
        "µs of its server for a publish, with a second server on Redis, 20 a tick",
        ("20 a tick", OURS),
        ("20 a tick", "ours alone"),
        "publishing_us",
    ),
    Cost(
        "a million publishes to a durable topic, 512 in flight",
        ("512 in flight", "ours-durable"),
        ("512 in flight", OURS),
    ),
)


def cost_lines(results: Results) -> Iterator[str]:
    """Yield a table: CPU seconds unless the text has another unit."""
    rows = [row for cost in COSTS if (row := _cost_row(results, cost))]
    if rows:
        yield from ("| CPU seconds for | with it | without it | multiple |", "|---|---|---|---|", *rows)


def _cost_row(results: Results, cost: Cost) -> str:
    used, plain = (results.spread(*place, cost.figure) for place in (cost.used, cost.plain))
    if used is None or plain is None or not plain.median:
        return ""
    multiple = f"{used.median / plain.median:.2f}"
    return f"| {cost.text} | {number(used.median)} | {number(plain.median)} | {multiple} |"


USUAL = "baseline"
HIGHLIGHTS = (
    ("CPU seconds for a million deliveries, 100 subscribers, 20 messages in flight", "100x20", PER_MILLION, OURS),
    ("the same, 1,000 subscribers, 200 in flight", "1000x200", PER_MILLION, OURS),
    ("acknowledged publishes a second, one connection, 100 in flight", "1x100", "publishes_per_s", OURS),
    ("the same to a durable topic, on disk, 512 in flight", "512 in flight", "publishes_per_s", "ours-durable"),
    ("KiB for an idle subscriber", "10000 connections", PER_CONNECTION, OURS),
    ("MiB with 10,000 idle subscribers, the whole process", "10000 connections", "rss_mib", OURS),
    ("seconds for 10,000 connects and subscribes", "10000 connections", "connect_s", OURS),
)
"""Text, cell, figure and peer of the rows on the first page, beside those of the usual way."""


def highlight_lines(results: Results) -> Iterator[str]:
    rows = [(text, _median(results, cell, peer, figure), _median(results, cell, USUAL, figure))
            for text, cell, figure, peer in HIGHLIGHTS]  # fmt: skip
    if any(own for _, own, _ in rows):
        yield from ("| Measured | This server | The usual way |", "|---|---|---|")
        yield from (f"| {text} | {own} | {usual} |" for text, own, usual in rows if own)


def _median(results: Results, cell: str, peer: str, figure: str) -> str:
    spread = results.spread(cell, peer, figure)
    return number(spread.median) if spread else ""
