"""``pubsub presence``: the clients in a topic, a line each. It must never join one."""

from __future__ import annotations

import argparse
from typing import Final

from pubsub.cli.output import STANDARD_OUTPUT, Output
from pubsub.cli.printed import json_line
from pubsub.cli.running import LoopFactory, remark, run_in_loop
from pubsub.cli.statuses import EPILOG, Status
from pubsub.client import PresentClient
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.flags import add_server_flags, topic
from pubsub.client.terminal import escape
from pubsub.console.items import count_of

NAME: Final = "presence"


def run_presence(flags: list[str], loop_factory: LoopFactory) -> int:
    """List clients; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_args(flags)
    return run_in_loop(NAME, list_clients(chosen, read_credentials(parser, chosen)), loop_factory)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description="List the clients in a topic, a line each.",
                                     epilog=EPILOG, allow_abbrev=False)  # fmt: skip
    parser.add_argument("topic", metavar="TOPIC", type=topic, help="a topic with the option presence")
    parser.add_argument("--json", action="store_true", help="print one object of JSON, with the count of all clients")
    add_server_flags(parser)
    return parser


async def list_clients(chosen: argparse.Namespace, credentials: Credentials) -> int:
    from pubsub.client.rest import RestClient, open_http  # with aiohttp: --help does without

    async with open_http(credentials) as http:
        presence = await RestClient(http, chosen.url).presence(chosen.topic)
    output = Output(STANDARD_OUTPUT)
    for line in [json_line(presence)] if chosen.json else map(describe_client, presence.clients):
        output.put(line)
    await output.flush()
    if not chosen.json and (more := presence.count - len(presence.clients)) > 0:
        remark(NAME, f"and {count_of(more, 'more client')}")
    return Status.DONE


def describe_client(client: PresentClient) -> bytes:
    connections = "" if client.connections == 1 else f" ({count_of(client.connections, 'connection')})"
    return escape(f"{client.client_id}{connections}").encode() + b"\n"
