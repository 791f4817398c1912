"""``pubsub pub``: publishes a message, or each line of standard input. It must never publish a part of a line."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from pubsub.cli.connecting import add_client_flags, make_client, read_client
from pubsub.cli.output import STANDARD_OUTPUT, Output
from pubsub.cli.payloads import read_json, read_payloads, read_text
from pubsub.cli.printed import json_line
from pubsub.cli.running import LoopFactory, Unusable, run
from pubsub.cli.statuses import Status
from pubsub.client import Client, Published, PubsubError, TopicExists
from pubsub.client.credentials import Credentials
from pubsub.client.flags import message_id, seconds, topic, whole_number
from pubsub.console.items import count_of
from pubsub.protocol.requests import MAX_SEQ

NAME: Final = "pub"
DESCRIPTION: Final = """\
Publish JSON as a message of a topic; without JSON, each line of standard input. The command ends when the server has
acknowledged all messages. It prints nothing, unless --json is given."""
EPILOG: Final = """\
A line that is no JSON, and a message that the server refuses, end the command: it tells how many messages were
published before. Some after a refused one may be in the topic too. Blank lines are left out, except with --text.

exit status: 0 all messages are in the topic; 1 the server refused; 2 wrong flags, or a line that is no JSON;
3 the server could not be reached, or did not answer: messages may be in the topic nevertheless; 130 Ctrl-C, 143 SIGTERM
"""


def run_pub(flags: list[str], loop_factory: LoopFactory) -> int:
    """Publish; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_intermixed_args(flags)
    credentials = read_client(parser, chosen)
    if chosen.json_text is None and not (chosen.id is None and chosen.expect is None):
        parser.error("--id and --expect are for one message, not for the lines of standard input")
    chosen.read = read_text if chosen.text else read_json
    try:
        chosen.payload = None if chosen.json_text is None else chosen.read(chosen.json_text)
    except ValueError as error:
        parser.error(str(error))
    return run(NAME, publish(chosen, credentials), loop_factory)


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
    add_client_flags(parser)
    return parser


async def publish(chosen: argparse.Namespace, credentials: Credentials) -> int:
    output = Output(STANDARD_OUTPUT)
    async with make_client(NAME, chosen, credentials) as client:
        if chosen.create:
            with suppress(TopicExists):
                await client.create_topic(chosen.topic)
        async for published in publish_all(client, chosen):
            if chosen.json:
                for each in published:
                    output.put(json_line(each))
                await output.flush()
    return Status.DONE


async def publish_all(client: Client, chosen: argparse.Namespace) -> AsyncIterator[list[Published]]:
    """Publish; yield the outcomes of messages that were published together. An error tells how many were before it."""
    if chosen.payload is not None:
        yield [
            await client.publish(
                chosen.topic, chosen.payload, id=chosen.id, ttl_sec=chosen.ttl, expect_seq=chosen.expect
            )
        ]
        return
    count = 0
    try:
        async for payloads in read_payloads(chosen.read, blank=chosen.text):
            published = await client.publish_many(chosen.topic, payloads, ttl_sec=chosen.ttl)
            count += len(published)
            yield published
    except (PubsubError, Unusable) as error:
        count += getattr(error, "index", None) or 0
        error.args = (f"{error}; {count_of(count, 'message')} published before",)
        raise
