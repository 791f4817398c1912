"""The only output of the console: all text goes through ``show``, which must never let a control character out."""

import os
import sys
from io import TextIOWrapper

from pubsub.client.terminal import discard_output, escape
from pubsub.console.lines import Kind, Line, paint


class OutputClosed(Exception):
    """Nobody reads the output any more, as when it goes to ``head``."""


class Screen:
    """Shows answers and events on standard output, remarks on standard error, so that a script can tell them apart."""

    def __init__(self) -> None:
        self._coloured = is_interactive() and _wants_colours()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def show(self, line: Line) -> None:
        text = paint(line) if self._coloured else escape(line.text)
        # Looked up for each line: prompt_toolkit replaces both streams while it prompts.
        stream = sys.stderr if line.kind is Kind.REMARK else sys.stdout
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:
            discard_output(sys.stdout, sys.stderr)
            raise OutputClosed from None


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _wants_colours() -> bool:
    """Return True if the user has not turned colours off (https://no-color.org), and the terminal has them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
