"""``pubsub sub``: the events of topics as lines on standard output. It must never decide what a loss means."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Raw

from pubsub.cli.connecting import add_client_flags, make_client, read_client
from pubsub.cli.printed import as_json, as_text
from pubsub.cli.resume_file import read_positions
from pubsub.cli.running import LoopFactory, OutputClosed, run_in_loop
from pubsub.cli.statuses import Status
from pubsub.cli.tail import Tail
from pubsub.client import Position
from pubsub.client.credentials import Credentials
from pubsub.client.flags import json_object, pattern, seconds, whole_number
from pubsub.console.first_of import first_of
from pubsub.protocol.patterns import covers
from pubsub.protocol.requests import MAX_SEQ

if TYPE_CHECKING:
    from pubsub.client import Client, Subscription

NAME: Final = "sub"
FLUSH_WAIT_SEC: Final = 2.0
"""The longest wait, at the end, for a reader that stalls."""
DESCRIPTION: Final = """\
Print the events of topics, a line each: "[orders] #17 ID: PAYLOAD", or with --json
{"type":"event","topic":"orders","seq":17,"epoch":"k3f9","id":"ID","payload":PAYLOAD,"ts":"2025-08-25T10:01:00Z"}.
It reconnects by itself, without a loss and without a repetition. Messages that can't be had any more are a line too:
"gap: ...", or {"type":"gap","topic":...,"epoch":...,"from_seq":...,"to_seq":...,"count":...,"reason":...}."""
EPILOG: Final = """\
exit status: 0 done, or nobody reads the output any more; 1 the server refused; 2 wrong flags, or a file that cannot be
read or written; 3 the server could not be reached; 4 --timeout came before --count; 5 done, but there was a gap;
130 Ctrl-C, 143 SIGTERM"""


def run_sub(flags: list[str], loop_factory: LoopFactory) -> int:
    """Print events; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_intermixed_args(flags)
    return run_in_loop(NAME, print_events(chosen, read_client(parser, chosen)), loop_factory)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add(
        "topics", metavar="TOPIC", nargs="+", type=pattern, help="a name, or a pattern such as 'orders.*' or 'orders.>'"
    )
    add("--last-n", metavar="N", type=whole_number(0, MAX_SEQ), default=0,
        help="begin with the last N messages that the topic keeps (default: %(default)s)")  # fmt: skip
    add("--filter", metavar="CEL", help="only events on which it is true, as in 'payload.amount > params.least'")
    add("--params", metavar="JSON", type=json_object, help="""values for the filter, as in '{"least":100}'""")
    add("--json", action="store_true", help="print JSON, for programs")
    add("--count", metavar="N", type=whole_number(1, MAX_SEQ), help="end after N events")
    add("--timeout", metavar="SECONDS", type=seconds(), help="end after this time")
    add(
        "--resume",
        metavar="FILE",
        type=Path,
        help="begin where FILE says, and keep in it the position that has been printed; it need not exist yet",
    )
    add("--notices", action="store_true",
        help="print also that topics are created or deleted, and that clients join or leave")  # fmt: skip
    add("--no-mend", dest="mend", action="store_false",
        help="print a gap for messages that the server dropped, instead of asking for them")  # fmt: skip
    add_client_flags(parser)
    return parser


async def print_events(chosen: argparse.Namespace, credentials: Credentials) -> int:
    reached = read_positions(chosen.resume) if chosen.resume else {}
    tail = Tail(as_json if chosen.json else as_text, count=chosen.count, notices=chosen.notices, file=chosen.resume)
    try:
        async with asyncio.timeout(chosen.timeout), make_client(NAME, chosen, credentials) as client:
            await follow(client, chosen, reached, tail)
    except TimeoutError:
        if chosen.count:
            return Status.TIMEOUT
    return Status.GAP if tail.has_gaps else Status.DONE


async def follow(client: Client, chosen: argparse.Namespace, reached: Mapping[str, Position], tail: Tail) -> None:
    """Subscribe and print until ``tail`` has all its events; then, or when it is cancelled, print what has come."""
    async with AsyncExitStack() as stack:
        for topic in without_covered(chosen.topics):
            subscription = subscribe(client, topic, chosen, reached)
            tail.subscriptions.append(await stack.enter_async_context(subscription))
        await tail.output.flush()  # saves the positions at which it begins
        try:
            await first_of(tail.output.run(), *map(tail.print, tail.subscriptions))
        finally:
            with suppress(TimeoutError, OutputClosed):
                async with asyncio.timeout(FLUSH_WAIT_SEC):
                    await tail.output.flush()


def without_covered(names: Sequence[str]) -> list[str]:
    """Leave out names that are there twice, or that a pattern covers: their events would be printed twice."""
    unique = dict.fromkeys(names)
    return [each for each in unique if not any(other != each and covers(other, each) for other in unique)]


def subscribe(
    client: Client, topic: str, chosen: argparse.Namespace, reached: Mapping[str, Position]
) -> Subscription[Raw]:
    resume = {name: position for name, position in reached.items() if covers(topic, name)}
    return client.subscribe(
        topic,
        type=Raw,
        last_n=chosen.last_n,
        filter=chosen.filter,
        params=chosen.params,
        resume=resume or None,
        mend=chosen.mend,
        notices=True,
    )
