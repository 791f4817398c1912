"""A session at a terminal: a prompt with history and completion, below the messages of the server.

Only this module and completion.py import prompt_toolkit; without a terminal neither must be imported.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle

from pubsub.client import PubsubError, State
from pubsub.console.commands import Command, Quit
from pubsub.console.completion import CommandCompleter, TopicNames
from pubsub.console.connection import Connection
from pubsub.console.console import Console
from pubsub.console.first_of import first_of

QUIT_WAIT_SEC = 5.0
"""The longest wait for the answers to the commands before ``quit``."""


async def run_prompt(console: Console) -> int:
    """Read and run commands until the person quits; return 0, also if commands failed."""
    topics = TopicNames(console.rest)
    with patch_stdout(raw=True):
        await first_of(
            _serve(_session(console, topics), console),
            _keep_open(console),
            _remark_connected(console),
            topics.keep_refreshed(),
            console.wait_output_closed(),
        )
    return 0


async def _serve(session: PromptSession[str], console: Console) -> None:
    """Read and run commands up to ``quit``."""
    commands: asyncio.Queue[Command] = asyncio.Queue()
    running = asyncio.create_task(_run_commands(commands, console))
    try:
        await _read_commands(session, console, commands)
        with suppress(TimeoutError):
            async with asyncio.timeout(QUIT_WAIT_SEC):
                await commands.join()
    finally:
        running.cancel()


async def _keep_open(console: Console) -> None:
    """Connect, and stay connected. Never returns."""
    try:
        async with console.client:
            await console.connection.wait_ended()
            console.connection.require_alive()
    except PubsubError as error:
        console.remark(f"{error}; not reconnecting by itself: quit and start again")
    await asyncio.Event().wait()


async def _remark_connected(console: Console) -> None:
    """Tell the person that there is a connection. Never returns."""
    await console.connection.wait_open()
    console.remark(f"connected to {console.connection.name}; 'help' lists the commands")
    await asyncio.Event().wait()


async def _read_commands(session: PromptSession[str], console: Console, commands: asyncio.Queue[Command]) -> None:
    """Put the typed commands in a queue, so that the prompt stays usable and their order is kept."""
    async for line in _typed_lines(session):
        command = console.read(line)
        if isinstance(command, Quit):
            return
        commands.put_nowait(command)


async def _typed_lines(session: PromptSession[str]) -> AsyncIterator[str]:
    """Yield typed lines up to Ctrl-D; pasted text may hold several."""
    with suppress(EOFError):
        while True:
            for line in (await session.prompt_async()).split("\n"):
                yield line


async def _run_commands(commands: asyncio.Queue[Command], console: Console) -> None:
    while True:
        await console.run(await commands.get())
        commands.task_done()


def _session(console: Console, topics: TopicNames) -> PromptSession[str]:
    session: PromptSession[str] = PromptSession(
        lambda: _prompt(console.connection),
        history=_history(),
        completer=CommandCompleter(topics, lambda: console.following.names),
        complete_style=CompleteStyle.READLINE_LIKE,
        key_bindings=_keys(),
    )
    session.default_buffer.on_text_changed += lambda buffer: topics.refresh()
    return session


def _prompt(connection: Connection) -> str:
    return "pubsub> " if connection.state is State.OPEN else f"pubsub ({connection.state.value})> "


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("c-c")
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        """Clear the line; on an empty line, quit."""
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError)

    return keys


def _history() -> History:
    """Open the history of earlier sessions, readable by this user alone: it may hold payloads."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = state / "pubsub" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return _LenientFileHistory(path)


class _LenientFileHistory(FileHistory):
    """A history that does without lines that cannot be stored, as on a full disk."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)
