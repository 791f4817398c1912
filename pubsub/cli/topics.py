"""``pubsub topics``: the topics of a server, a line each. It must never change one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from pubsub.cli.output import STANDARD_OUTPUT, Output
from pubsub.cli.printed import json_line
from pubsub.cli.running import LoopFactory, remark, run_in_loop
from pubsub.cli.statuses import EPILOG, Status
from pubsub.client import TopicSummary
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.flags import add_server_flags
from pubsub.console.items import count_of

NAME: Final = "topics"


def run_topics(flags: list[str], loop_factory: LoopFactory) -> int:
    """List topics; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_args(flags)
    return run_in_loop(NAME, list_topics(chosen, read_credentials(parser, chosen)), loop_factory)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description="List the topics of a server, a line each.",
                                     epilog=EPILOG, allow_abbrev=False)  # fmt: skip
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only names that begin with it")
    parser.add_argument("--json", action="store_true", help="print an object of JSON for each topic")
    add_server_flags(parser)
    return parser


async def list_topics(chosen: argparse.Namespace, credentials: Credentials) -> int:
    from pubsub.client.rest import RestClient, open_http  # with aiohttp: --help does without

    async with open_http(credentials) as http:
        rest = RestClient(http, chosen.url)
        topics = await rest.find_topics(chosen.prefix)
    output = Output(STANDARD_OUTPUT)
    for line in map(json_line, topics) if chosen.json else describe_topics(topics):
        output.put(line)
    await output.flush()
    if rest.missing:
        remark(NAME, f"subscribers at servers that did not answer are not counted: {', '.join(rest.missing)}")
    return Status.DONE


def describe_topics(topics: Sequence[TopicSummary]) -> list[bytes]:
    width = max((len(topic.name) for topic in topics), default=0)
    return [
        f"{topic.name:{width}}  {count_of(topic.subscribers, 'subscriber')}  seq {topic.seq}\n".encode()
        for topic in topics
    ]
