"""The limit of open files of this process, and the number of connections that it leaves room for."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

OWN: Final = 32  # for the process itself: 20, and some that are accepted before others have been evicted


def raise_limit() -> int:
    """Raise the limit as far as the system allows, and return it; 0 where there is none."""
    if sys.platform == "win32":
        return 0
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it unlimited, and then it is not
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return files_of_machine()


def files_of_machine() -> int:
    """The number of files that may be open; 0 where there is no limit."""
    if sys.platform == "win32":
        return 0
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if files == resource.RLIM_INFINITY else files


def sockets_of_machine() -> int:
    """The number of connections of any kind that there is room for; 0 is no limit."""
    files = files_of_machine()
    return files and max(2, files - OWN)


def connections_of_machine() -> int:
    """The number of them that may be WebSockets: HTTP always has some for itself. 0 is no limit."""
    room = sockets_of_machine()
    return room and max(1, room - max(8, room // 16))
