"""Exit statuses of the commands that talk to a server, and the errors behind them. It must never end a program."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pubsub.client.errors import PubsubError, ServerFault, Unreachable

KILLED: Final = 128
"""Added to the number of the signal that ended a program, it is the exit status, as in a shell."""
EPILOG: Final = """\
exit status: 0 done; 1 the server refused; 2 wrong flags; 3 the server could not be reached; 130 Ctrl-C, 143 SIGTERM"""


class Status(IntEnum):
    DONE = 0
    REFUSED = 1
    UNUSABLE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    GAP = 5


def status_of(error: PubsubError) -> Status:
    return Status.UNREACHABLE if isinstance(error, Unreachable | ServerFault) else Status.REFUSED
