"""The only way to the terminal: whatever is shown goes through ``show``, which lets no control character out."""

import os
import sys
from io import TextIOWrapper

from pubsub.client.terminal import escape
from pubsub.console.lines import Kind, Line, paint


class ScreenGone(Exception):
    """Nobody reads what is shown any more, as when the output goes to ``head``."""


class Screen:
    """Answers and events go to standard output, remarks to standard error, so that a script can part them."""

    def __init__(self) -> None:
        self._coloured = is_interactive() and _wants_colours()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def show(self, line: Line) -> None:
        text = paint(line) if self._coloured else escape(line.text)
        # Looked up for each line: prompt_toolkit puts its own streams there while it prompts.
        stream = sys.stderr if line.kind is Kind.REMARK else sys.stdout
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:
            _discard_rest()
            raise ScreenGone from None


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _wants_colours() -> bool:
    """Whether the person left colours on (https://no-color.org), and the terminal has them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _discard_rest() -> None:
    """Give what is still buffered somewhere to go, or Python complains about it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
