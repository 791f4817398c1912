"""The interactive client, ``python -m pubsub client``: commands from a person or a script, and the server's answers.

It must never import the server: it knows the protocol alone, as any client does.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from yarl import URL

from pubsub.client.address import Unreachable
from pubsub.client.credentials import Credentials
from pubsub.client.rest import open_http
from pubsub.console.console import Console
from pubsub.console.plain import run_plain
from pubsub.console.screen import OutputClosed, is_interactive

__all__ = ["run_console"]


def run_console(*, base: URL, client_id: str | None, credentials: Credentials) -> int:
    """Run a session with the server at ``base`` to its end; return the exit status.

    0: all went well · 1: a command failed, or the server could not be reached · 130: Ctrl-C.
    """
    try:
        name = client_id or credentials.client_id or f"console-{secrets.token_hex(6)}"
        return asyncio.run(_run_session(base, name, credentials))
    except KeyboardInterrupt:
        return 130


async def _run_session(base: URL, client_id: str, credentials: Credentials) -> int:
    async with open_http(credentials) as http:
        console = Console(http, base, client_id)
        run = _choose_runner(console)
        status = 1
        try:
            status = await run(console)
        except* Unreachable as group:
            console.remark(f"error: {group.exceptions[0]}")
        except* OutputClosed:
            status = 0
    return status


def _choose_runner(console: Console) -> Callable[[Console], Awaitable[int]]:
    if not is_interactive():
        return run_plain
    try:
        from pubsub.console.prompt import run_prompt
    except ModuleNotFoundError as error:
        console.remark(f"no history, no completion: {error.name} is missing; install the extra 'client' to get them")
        return run_plain
    return run_prompt
