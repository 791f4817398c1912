"""One session of the console from its start to its exit status. It must never run a command."""

import asyncio
import logging
import secrets

from yarl import URL

from pubsub.client import PubsubError
from pubsub.client.credentials import Credentials
from pubsub.client.rest import open_http
from pubsub.console.console import Console
from pubsub.console.plain import run_plain
from pubsub.console.screen import is_interactive


def run_console(*, base: URL, client_id: str | None, credentials: Credentials) -> int:
    """Run a session with the server at ``base`` to its end; return the exit status.

    0: all went well · 1: a command failed, or the server could not be reached · 130: Ctrl-C.
    """
    logging.getLogger("pubsub.client").addHandler(logging.NullHandler())  # its warnings are remarks here
    try:
        name = client_id or credentials.client_id or f"console-{secrets.token_hex(6)}"
        return asyncio.run(_run_session(base, name, credentials))
    except KeyboardInterrupt:
        return 130


async def _run_session(base: URL, client_id: str, credentials: Credentials) -> int:
    run, missing = run_plain, ""
    if is_interactive():
        try:
            from pubsub.console.prompt import run_prompt as run
        except ModuleNotFoundError as error:
            missing = error.name or ""
    async with open_http(credentials) as http:
        # A script ends if there is no server; a person may start one.
        console = Console(http, base, client_id, credentials, connect_timeout=0 if run is run_plain else None)
        if missing:
            console.remark(f"no history, no completion: {missing} is missing; install the extra 'client' to get them")
        try:
            return await run(console)
        except PubsubError as error:
            console.remark(f"error: {error}")
            return 1
