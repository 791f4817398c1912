"""The plan of a run, read from flags. It must never connect."""

import argparse
import enum
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from yarl import URL

from pubsub.bench.filters import Difference, Filter, make_filter
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.flags import add_server_flags, seconds, topic, whole_number

Choice = TypeVar("Choice", bound=enum.StrEnum)

# Upper limits: a run ends by itself, and takes no more than a machine has.
MAX_SUBSCRIBERS: Final = 10_000
MAX_RATE: Final = 1_000_000
MAX_WINDOW: Final = 10_000
MIN_SIZE: Final = 64  # number, send time and the JSON around them
MAX_SIZE: Final = 1_000_000  # with the JSON around a payload, below the default limit of the server
MAX_DURATION: Final = 600.0
MAX_PATTERNS: Final = 100_000
MAX_TOPIC_OF_PATTERNS: Final = 200
"""Characters of a topic that leave room for the patterns named after it."""
MAX_BYTES_IN_FLIGHT: Final = 64 * 2**20

EPILOG: Final = f"""\
Load only servers that are your own. The run creates a topic for itself and deletes it at the end.

At most {MAX_SUBSCRIBERS:,} subscribers, {MAX_RATE:,} messages/s, {MAX_WINDOW:,} in flight, {MAX_SIZE:,} bytes,
{MAX_DURATION:g} seconds.

With --compress, the payloads are words and numbers, which compress as those of real messages do, and the bytes that the
subscribers received are in the table.

With --filters, the subscribers are spread evenly over so many filters that differ, in --filters-by. Each filter matches
every message, so that nothing else changes. With --patterns, more clients hold so many subscriptions to patterns that
cover no topic.

With --rate, each message has a time at which it is due, and its latency counts from that time: a pause of the server
counts for every message that was due during it. Above 1,000/s messages are due together, once each millisecond.

Exit status: 0 every message arrived once and in order; 1 one did not, or the server could not be reached or refused;
2 wrong flags; 130 Ctrl-C. Progress and a table go to standard error, one line of JSON to standard output.
"""


class Compression(enum.StrEnum):
    """Subscribers offer permessage-deflate, or not."""

    OFF = "off"
    ON = "on"


class Transport(enum.StrEnum):
    """The protocol of the subscribers; the publisher has a WebSocket."""

    WEBSOCKET = "websocket"
    SSE = "sse"


@dataclass(frozen=True, slots=True)
class Plan:
    base: URL
    topic: str
    subscribers: int
    rate: int  # messages/s; 0: as fast as they are acknowledged
    window: int  # messages in flight, if the rate is 0
    size: int  # of a payload, in bytes
    duration: float  # seconds
    transport: Transport = Transport.WEBSOCKET
    compress: bool = False
    filters: int = 0  # that differ; 0: none
    filters_by: Difference = Difference.PARAMS
    patterns: int = 0  # idle subscriptions to patterns
    credentials: Credentials = field(default_factory=Credentials)

    @property
    def most_in_flight(self) -> int:
        """The most messages without ack; with a rate, memory alone is the limit."""
        return min(100_000, MAX_BYTES_IN_FLIGHT // self.size) if self.rate else self.window

    def filter_of(self, number: int) -> Filter | None:
        """Return the filter of the subscriber with this number."""
        return make_filter(number % self.filters, self.filters_by) if self.filters else None

    def pattern(self, number: int) -> str:
        """Return the idle pattern with this number; it covers no topic."""
        return f"{self.topic}.idle-{number}.*"


def read_plan(flags: list[str]) -> Plan:
    """Read the flags; an invalid one ends the program with status 2 and an explanation."""
    parser = _parser()
    chosen = parser.parse_args(flags)
    if chosen.window * chosen.size > MAX_BYTES_IN_FLIGHT and not chosen.rate:
        parser.error(f"--window times --size: got {chosen.window * chosen.size:,} bytes in flight, "
                     f"expected at most {MAX_BYTES_IN_FLIGHT:,}")  # fmt: skip
    if chosen.compress is Compression.ON and chosen.transport is Transport.SSE:
        parser.error("--compress: expected --transport websocket")
    if chosen.filters > chosen.subscribers:
        parser.error(f"--filters: got {chosen.filters:,}, expected at most the {chosen.subscribers:,} of --subscribers")
    if chosen.patterns and len(chosen.topic or "") > MAX_TOPIC_OF_PATTERNS:
        parser.error(f"--topic: expected at most {MAX_TOPIC_OF_PATTERNS} characters with --patterns")
    return Plan(
        base=chosen.url,
        topic=chosen.topic or f"bench-{secrets.token_hex(6)}",
        subscribers=chosen.subscribers,
        rate=chosen.rate,
        window=chosen.window,
        size=chosen.size,
        duration=chosen.duration,
        transport=chosen.transport,
        compress=chosen.compress is Compression.ON,
        filters=chosen.filters,
        filters_by=chosen.filters_by,
        patterns=chosen.patterns,
        credentials=read_credentials(parser, chosen),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "pubsub bench", description="Load a server of your own, and measure it.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("--subscribers", type=whole_number(0, MAX_SUBSCRIBERS), default=100, metavar="N",
        help="clients that get each message (default: %(default)s)")  # fmt: skip
    add("--rate", type=whole_number(0, MAX_RATE), default=0, metavar="R",
        help="messages published a second; 0: as fast as they are acknowledged (default: %(default)s)")  # fmt: skip
    add("--window", type=whole_number(1, MAX_WINDOW), default=20, metavar="W",
        help="messages in flight if the rate is 0 (default: %(default)s)")  # fmt: skip
    add("--size", type=whole_number(MIN_SIZE, MAX_SIZE), default=200, metavar="BYTES",
        help="size of a payload (default: %(default)s)")  # fmt: skip
    add("--duration", type=seconds(MAX_DURATION), default=5.0, metavar="SECONDS",
        help="how long to publish (default: %(default)g)")  # fmt: skip
    add("--transport", type=_one_of(Transport), default=Transport.WEBSOCKET, metavar="NAME",
        help="protocol of the subscribers: websocket or sse (default: %(default)s)")  # fmt: skip
    add("--compress", type=_one_of(Compression), nargs="?", const=Compression.ON, default=Compression.OFF,
        metavar="WHEN", help="subscribers offer permessage-deflate: off or on (default: %(default)s)")  # fmt: skip
    add("--filters", type=whole_number(0, MAX_SUBSCRIBERS), default=0, metavar="N",
        help="filters that differ, over which the subscribers are spread; 0: none (default: %(default)s)")  # fmt: skip
    add("--filters-by", type=_one_of(Difference), default=Difference.PARAMS, metavar="PART",
        help="difference of the filters: the params, or the text (default: %(default)s)")  # fmt: skip
    add("--patterns", type=whole_number(0, MAX_PATTERNS), default=0, metavar="N",
        help="idle subscriptions to patterns that cover no topic (default: %(default)s)")  # fmt: skip
    add("--topic", type=topic, metavar="NAME",
        help="name of the topic, which must not exist yet (default: one that is made up)")  # fmt: skip
    add_server_flags(parser)
    return parser


def _one_of(kind: type[Choice]) -> Callable[[str], Choice]:
    def read(text: str) -> Choice:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {' or '.join(kind)}") from None

    return read
