"""Runs a command that talks to a server, from its start to its exit status. It must never know a topic or a message."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

from pubsub.cli.statuses import KILLED, Status, status_of
from pubsub.client.errors import PubsubError
from pubsub.client.terminal import escape
from pubsub.system.logs import hold_standard_streams

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
LoopFactory = Callable[[], asyncio.AbstractEventLoop] | None


class OutputClosed(Exception):
    """Nobody reads the output any more, as when it goes to ``head``."""


class Unusable(Exception):
    """A file, the input or the output can't be used, or a line of the input; the text names it and gives the reason."""


def run_in_loop(name: str, work: Coroutine[None, None, int], loop_factory: LoopFactory) -> int:
    """Run ``work`` as :func:`run` does. A signal cancels it, so that it can end what it has begun."""

    def run_to_end() -> int:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_until_signal(work))

    return run(name, run_to_end)


def run(name: str, work: Callable[[], int]) -> int:
    """Run ``work``; return the exit status. An error is told on standard error, after the ``name`` of the command."""
    hold_standard_streams()  # a socket with the number of standard output would get the lines for it
    logging.getLogger("pubsub.client").addHandler(logging.NullHandler())  # its warnings are remarks here
    try:
        return work()
    except PubsubError as error:
        remark(name, str(error))
        return status_of(error)
    except Unusable as error:
        remark(name, str(error))
        return Status.UNUSABLE
    except OutputClosed:
        return Status.DONE
    except KeyboardInterrupt:
        return KILLED + signal.SIGINT


async def _until_signal(work: Coroutine[None, None, int]) -> int:
    """Cancel ``work`` at a signal, and what it does then at a second one."""
    received: list[int] = []
    task = asyncio.current_task()
    assert task is not None, "a coroutine that runs has a task"

    def receive(number: int) -> None:
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        with suppress(NotImplementedError):  # on Windows Ctrl-C ends the program at once
            loop.add_signal_handler(number, receive, number)
    try:
        return await work
    except asyncio.CancelledError:
        if not received:
            raise
        return KILLED + received[0]
    finally:  # uvloop's loop leaves them when it is closed
        for number in SIGNALS:
            with suppress(NotImplementedError):
                loop.remove_signal_handler(number)


def remark(name: str, text: str) -> None:
    """Tell a person something on standard error; the command goes on if nobody reads it."""
    with suppress(OSError):
        print(f"pubsub {name}: {escape(text)}", file=sys.stderr, flush=True)
