"""How many files this process may have open, and how many connections that leaves room for."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

OWN: Final = 32  # for the process itself: 20, and some that are accepted before others have made way


def raise_limit() -> int:
    """Take all that the system lets this process have; how many open files that is, 0 where there is no limit."""
    if sys.platform == "win32":
        return 0
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it unlimited, and then it is not
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return files_of_machine()


def files_of_machine() -> int:
    """How many files may be open; 0 where there is no limit."""
    if sys.platform == "win32":
        return 0
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if files == resource.RLIM_INFINITY else files


def sockets_of_machine() -> int:
    """How many connections of any kind there is room for; 0 is no limit."""
    files = files_of_machine()
    return files and max(2, files - OWN)


def connections_of_machine() -> int:
    """How many of them may be WebSockets: HTTP always has some for itself. 0 is no limit."""
    room = sockets_of_machine()
    return room and max(1, room - max(8, room // 16))
