"""``pubsub pub``: publishes a message, or each line of standard input. It must never publish a part of a line.

It publishes lists over REST. A message costs 3.2 µs so, over a WebSocket 16, and an API key is enough for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from msgspec import Raw

from pubsub.cli.list_publisher import ListPublisher
from pubsub.cli.output import STANDARD_OUTPUT, write
from pubsub.cli.payloads import read_json, read_payloads, read_text
from pubsub.cli.printed import json_line
from pubsub.cli.running import Unusable, run
from pubsub.cli.statuses import Status
from pubsub.client import Published, PubsubError
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.flags import add_server_flags, message_id, seconds, topic, whole_number
from pubsub.console.items import count_of
from pubsub.protocol.requests import MAX_SEQ

NAME: Final = "pub"
DEFAULT_WAIT_SEC: Final = 30.0
DESCRIPTION: Final = """\
Publish JSON as a message of a topic; without JSON, each line of standard input. The command ends when the server has
acknowledged all messages. It prints nothing, unless --json is given."""
EPILOG: Final = """\
A line that is no JSON, or that the server refuses, ends the command: it tells how many messages were published before,
and publishes none after it. Blank lines are left out, except with --text.

exit status: 0 all messages are in the topic; 1 the server refused; 2 wrong flags, or a line that is no JSON;
3 the server could not be reached, or did not answer: messages may be in the topic nevertheless; 130 Ctrl-C, 143 SIGTERM
"""


def run_pub(flags: list[str]) -> int:
    """Publish; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_intermixed_args(flags)
    credentials = read_credentials(parser, chosen)
    if chosen.json_text is None and not (chosen.id is None and chosen.expect is None):
        parser.error("--id and --expect are for one message, not for the lines of standard input")
    chosen.read = read_text if chosen.text else read_json
    try:
        chosen.payload = None if chosen.json_text is None else chosen.read(chosen.json_text)
    except ValueError as error:
        parser.error(str(error))
    return run(NAME, partial(publish, chosen, credentials))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("topic", metavar="TOPIC", type=topic, help="its name")
    add("json_text", metavar="JSON", nargs="?", help="the payload (default: each line of standard input is one)")
    add("--text", action="store_true", help="publish the text, or each line, as a JSON string")
    add("--id", metavar="UUID", type=message_id, help="the id of the message (default: one that is made up)")
    add("--ttl", metavar="SECONDS", type=seconds(), help="the time for which the messages are delivered")
    add("--expect", metavar="SEQ", type=whole_number(0, MAX_SEQ),
        help="publish only if this is the seq of the topic's last message")  # fmt: skip
    add("--create", action="store_true", help="create the topic if it does not exist")
    add("--json", action="store_true",
        help='print a line for each message: {"topic":"orders","id":"...","seq":17,"duplicate":false}')  # fmt: skip
    add("--wait", metavar="SECONDS", type=seconds(), default=DEFAULT_WAIT_SEC,
        help="the longest wait for an answer, also while the server restarts (default: %(default)g)")  # fmt: skip
    add_server_flags(parser)
    return parser


def publish(chosen: argparse.Namespace, credentials: Credentials) -> int:
    if chosen.create:
        create(chosen, credentials)
    with ListPublisher(chosen.url, credentials, chosen.topic, wait=chosen.wait) as publisher:
        for published in publish_all(publisher, chosen):
            if chosen.json:
                write(STANDARD_OUTPUT, b"".join(map(json_line, published)))
    return Status.DONE


def create(chosen: argparse.Namespace, credentials: Credentials) -> None:
    import asyncio

    from pubsub.client import TopicExists
    from pubsub.client.rest import RestClient, open_http

    async def create_topic() -> None:
        async with open_http(credentials) as http:
            with suppress(TopicExists):
                await RestClient(http, chosen.url).create(chosen.topic, {})

    asyncio.run(create_topic())


def publish_all(publisher: ListPublisher, chosen: argparse.Namespace) -> Iterator[list[Published]]:
    """Publish; yield the outcomes of messages that were published together."""
    if chosen.payload is not None:
        yield [publisher.publish(chosen.payload, id=chosen.id, ttl_sec=chosen.ttl, expect_seq=chosen.expect)]
    else:
        yield from publish_lines(publisher, read_payloads(chosen.read, blank=chosen.text), chosen.ttl)


def publish_lines(
    publisher: ListPublisher, lines: Iterable[list[Raw]], ttl_sec: float | None
) -> Iterator[list[Published]]:
    """Publish payloads, those together that came together. An error tells how many were published before."""
    count = 0
    try:
        for payloads in lines:
            for published in publisher.publish_lists(payloads, ttl_sec=ttl_sec):
                count += len(published)
                yield published
    except (PubsubError, Unusable) as error:
        error.args = (f"{error}; {count_of(count, 'message')} published before",)
        raise
