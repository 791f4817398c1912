"""``pubsub verify URL``: checks a deployment through its proxy. It must never touch a topic that is not its own."""

from __future__ import annotations

import argparse
import os
import time
from typing import Final

from pubsub.cli.output import STANDARD_OUTPUT, Output
from pubsub.cli.running import LoopFactory, remark, run_in_loop
from pubsub.cli.statuses import Status
from pubsub.client.credentials import Credentials, add_credential_flags, read_credentials
from pubsub.client.flags import DEFAULT_URL, URL_VARIABLE, seconds, url, whole_number

__all__ = ["run_verify"]

NAME: Final = "verify"
DEFAULT_SECONDS: Final = 20.0
MAX_SECONDS: Final = 600.0
DEFAULT_SIZE: Final = 1_000_000  # below the default MAX_MESSAGE_BYTES, with the JSON around it
DESCRIPTION: Final = """\
Check a deployment of your own, through its proxy, as clients reach it: REST, WebSockets, Server-Sent Events, order,
resume, gaps, limits and heartbeats. A row for each check tells what was done, and what to change if it failed."""
EPILOG: Final = """\
The command creates topics whose names begin with verify. and 12 random digits, and deletes them at the end, also after
Ctrl-C. On a server with keys or tokens it needs an API key of the role admin, or a token with admin that may subscribe
and publish to verify.>; for WebSockets, a token if the server takes tokens. It tells what it cannot check without.

exit status: 0 nothing failed; 1 a check failed, or the server could not be reached; 2 wrong flags; 130 Ctrl-C,
143 SIGTERM
"""


def run_verify(flags: list[str], loop_factory: LoopFactory) -> int:
    """Check a deployment; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_args(flags)
    return run_in_loop(NAME, verify(chosen, read_credentials(parser, chosen)), loop_factory)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    default = os.environ.get(URL_VARIABLE) or DEFAULT_URL
    add("place", metavar="URL", type=url, nargs="?", help="the deployment (default: that of --url)")
    add("--url", type=url, default=default, help=f"the same (default: {URL_VARIABLE}, or {DEFAULT_URL})")
    add("--seconds", type=seconds(MAX_SECONDS), default=DEFAULT_SECONDS, metavar="S",
        help="the longest time; idle connections are watched for all of it (default: %(default)g)")  # fmt: skip
    add("--quick", action="store_true", help="leave out what only time can tell: idle connections")
    add("--size", type=whole_number(1, 16 * 2**20), default=DEFAULT_SIZE, metavar="BYTES",
        help="size of the large messages, less than MAX_MESSAGE_BYTES (default: %(default)s)")  # fmt: skip
    add("--json", action="store_true", help="print one line of JSON instead of a table")
    add_credential_flags(parser)
    return parser


async def verify(chosen: argparse.Namespace, credentials: Credentials) -> int:
    from pubsub.verify import report  # with aiohttp, as the following: --help does without
    from pubsub.verify.deployment import Deployment
    from pubsub.verify.http import Address
    from pubsub.verify.outcomes import Outcome, State
    from pubsub.verify.run import Run

    place, begun = chosen.place or chosen.url, time.monotonic()
    deployment = Deployment(Address(place, credentials.tls), credentials, chosen.size)
    output, outcomes = Output(STANDARD_OUTPUT), list[Outcome]()

    async def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if not chosen.json:
            output.put(report.describe(outcome))
            await output.flush()

    try:
        await Run(deployment, chosen.seconds, watches=not chosen.quick).all(tell)
    finally:
        left = await deployment.clean()
        if left:
            remark(NAME, f"these topics could not be deleted: {', '.join(left)}")
    took = time.monotonic() - begun
    output.put(report.as_json(place, outcomes, took, left_behind=left) if chosen.json
               else report.summary(place, outcomes, took))  # fmt: skip
    await output.flush()
    return Status.REFUSED if any(each.state is State.FAILED for each in outcomes) else Status.DONE
