"""The interactive client, ``python -m pubsub client``: a person's or a script's commands, and the server's answers.

It is a client like any other: it knows the wire contract and nothing of the server's insides.
"""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from pubsub.console.address import Unreachable, server_url
from pubsub.console.console import Console
from pubsub.console.credentials import Credentials
from pubsub.console.plain import run_plain
from pubsub.console.screen import ScreenGone, is_interactive

__all__ = ["run_console"]

REST_WAIT_SEC = 10.0


def run_console(*, url: str, client_id: str | None, credentials: Credentials) -> int:
    """Converse with the server at ``url`` until the person or the script has done; the result is the exit status.

    0: all went well · 1: a command failed, or the server could not be reached · 2: ``url`` is none · 130: Ctrl-C.
    """
    try:
        base = server_url(url)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        name = client_id or credentials.client_id or f"console-{secrets.token_hex(6)}"
        return asyncio.run(_converse(base, name, credentials))
    except KeyboardInterrupt:
        return 130


async def _converse(base: URL, client_id: str, credentials: Credentials) -> int:
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=REST_WAIT_SEC),
        headers=credentials.headers,
        connector=credentials.connector(),
    ) as http:
        console = Console(http, base, client_id)
        run = _way_to_run(console)
        status = 1
        try:
            status = await run(console)
        except* Unreachable as group:
            console.remark(f"error: {group.exceptions[0]}")
        except* ScreenGone:
            status = 0
    return status


def _way_to_run(console: Console) -> Callable[[Console], Awaitable[int]]:
    if not is_interactive():
        return run_plain
    try:
        from pubsub.console.prompt import run_prompt
    except ModuleNotFoundError as error:
        console.remark(f"no history, no completion: {error.name} is missing; install the extra 'client' to have them")
        return run_plain
    return run_prompt
