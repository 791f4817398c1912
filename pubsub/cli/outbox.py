"""``pubsub outbox``: hands the committed rows of a table of PostgreSQL to a server."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

from pubsub.cli.running import LoopFactory, remark
from pubsub.cli.statuses import Status
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.errors import Unauthorized
from pubsub.client.flags import add_server_flags, seconds
from pubsub.outbox.errors import OutboxError
from pubsub.outbox.schema import DEFAULT_SCHEMA, statements
from pubsub.system.logs import hold_standard_streams, set_up_logs

NAME: Final = "outbox"
DSN_VARIABLE: Final = "PUBSUB_DSN"
DEFAULT_POLL_SEC: Final = 1.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
DESCRIPTION: Final = """\
Hand the committed rows of the table pubsub_outbox to a server, in order, and delete each when its topic has it. Fill it
in your own transactions, with SELECT pubsub_publish('orders', '{"amount":5}'). --install creates both."""
EPILOG: Final = """\
A second worker of the same outbox waits, and takes over when the first one ends. A row that the server refuses stays in
the table with its error, and the later ones go on. While a topic does not exist or is forbidden, its rows wait.

exit status: 0 SIGTERM or Ctrl-C, after the rows on their way; 1 the outbox cannot be used, or the server refused the
token or key; 2 wrong flags"""


def run_outbox(flags: list[str], loop_factory: LoopFactory) -> int:
    """Run the worker, or install the outbox; return the exit status, which ``--help`` explains."""
    parser = make_parser()
    chosen = parser.parse_args(flags)
    credentials = read_credentials(parser, chosen)
    hold_standard_streams()
    if chosen.sql:
        print(f"BEGIN;\n\n{statements(chosen.schema)}\n\nCOMMIT;")
        return Status.DONE
    try:
        from psycopg import Error

        from pubsub.outbox.worker import one_line
    except ImportError as error:
        remark(NAME, f"needs psycopg: pip install 'pubsub[outbox]' ({error})")
        return Status.REFUSED
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(install(chosen) if chosen.install else work(chosen, credentials))
    except (OutboxError, Unauthorized) as error:
        remark(NAME, str(error))
    except Error as error:
        remark(NAME, one_line(error))
    else:
        return Status.DONE
    return Status.REFUSED


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(f"pubsub {NAME}", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("--dsn", metavar="DSN", default=os.environ.get(DSN_VARIABLE, ""),
        help=f"the database, as postgresql://user@host/db (default: {DSN_VARIABLE}, or libpq's variables)")  # fmt: skip
    add("--schema", default=DEFAULT_SCHEMA, help="that of the table and the functions (default: %(default)s)")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--install", action="store_true", help="create or upgrade the table and the functions, and end")
    doing.add_argument(
        "--sql", action="store_true", help="print the SQL that --install runs in a new database, and end"
    )
    add("--poll", metavar="SECONDS", type=seconds(), default=DEFAULT_POLL_SEC,
        help="look for rows so often although no notification came (default: %(default)g)")  # fmt: skip
    add("--log-format", choices=("text", "json"), default="text", help="of standard error (default: %(default)s)")
    add_server_flags(parser)
    return parser


async def install(chosen: argparse.Namespace) -> None:
    from pubsub.outbox.database import Outbox, connect
    from pubsub.outbox.schema import VERSION

    connection = await connect(chosen.dsn)
    async with connection:
        outbox = Outbox(connection, chosen.schema)
        before = await outbox.install()
    found = {0: "created", VERSION: "was there already"}.get(before, f"upgraded from version {before}")
    print(f"{outbox.name}, version {VERSION}: {found}", file=sys.stderr)


async def work(chosen: argparse.Namespace, credentials: Credentials) -> None:
    from pubsub.client.rest import RestClient, open_http
    from pubsub.outbox.worker import Worker

    set_up_logs("info", chosen.log_format)
    async with open_http(credentials) as http:
        worker = Worker(chosen.dsn, chosen.schema, RestClient(http, chosen.url, timeout=60), poll=chosen.poll)
        await until_signal(worker.run(), worker.end)


async def until_signal(work: Coroutine[None, None, None], end: Callable[[], None]) -> None:
    """Await ``work``; the first signal calls ``end``, and the second one cancels it."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def receive(number: int) -> None:
        received.append(number)
        end() if len(received) == 1 else task.cancel()

    for number in SIGNALS:
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, receive, number)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:  # uvloop's loop leaves them when it is closed
        for number in SIGNALS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)
