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

from pubsub.console.commands import Command, Quit
from pubsub.console.completion import CommandCompleter, TopicNames
from pubsub.console.console import Console
from pubsub.console.link import Link, State

QUIT_WAIT_SEC = 5.0
"""The longest wait for the answers to the commands before ``quit``."""


async def run_prompt(console: Console) -> int:
    """Read and run commands until the person quits; return 0, also if commands failed."""
    commands: asyncio.Queue[Command] = asyncio.Queue()
    topics = TopicNames(console.rest)
    with patch_stdout(raw=True):
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(_keep_open(console)),
                group.create_task(_remark_connected(console)),
                group.create_task(topics.keep_refreshed()),
                group.create_task(_run_commands(commands, console)),
            ]
            await _read_commands(_session(console, topics), console, commands)
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIT_WAIT_SEC):
                    await commands.join()
            for task in background:
                task.cancel()
    return 0


async def _keep_open(console: Console) -> None:
    disconnection = await console.link.keep_open(persistent=True)
    console.remark(f"{disconnection.reason}; not reconnecting by itself: quit and start again")


async def _remark_connected(console: Console) -> None:
    await console.link.wait_open()
    console.remark(f"connected to {console.link.name}; 'help' lists the commands")


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
        lambda: _prompt(console.link),
        history=_history(),
        completer=CommandCompleter(topics, lambda: console.link.subscribed),
        complete_style=CompleteStyle.READLINE_LIKE,
        key_bindings=_keys(),
    )
    session.default_buffer.on_text_changed += lambda buffer: topics.refresh()
    return session


def _prompt(link: Link) -> str:
    return "pubsub> " if link.state is State.OPEN else f"pubsub ({link.state.value})> "


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
