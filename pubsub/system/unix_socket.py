"""Unix sockets to listen on: bound only where no other server listens, and removed at the end.

Nothing here accepts a connection or knows what is served.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LONGEST: Final = 107 if sys.platform == "linux" else 103  # bytes: sun_path of sockaddr_un, less one
CREDENTIALS: Final = struct.Struct("3i")  # process, user and group (unix(7))
LOCK_WAIT: Final = 2.0  # seconds for another server to bind in the same directory, which takes less than a millisecond


def check_path(path: str) -> None:
    """Raise ValueError if no socket can have this path, or name behind ``@``, on this system."""
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError("expected an address: this system has no Unix sockets")
    if not path.removeprefix("@") or "\0" in path:
        raise ValueError("expected a path behind unix:, such as unix:/run/pubsub.sock")
    if path.startswith("@") and sys.platform != "linux":
        raise ValueError("expected a path: only Linux has sockets without a file")
    if (length := len(os.fsencode(path.removeprefix("@")))) > LONGEST:
        raise ValueError(f"expected a path of at most {LONGEST} bytes, which is what this system allows, not {length}")


def address_of(path: str) -> str:
    """The address of a socket in the form of Python; ``@name`` is an abstract one, which has no file (unix(7))."""
    return "\0" + path[1:] if path.startswith("@") else path


def path_of(address: str | bytes) -> str:
    """The opposite of :func:`address_of`, for what ``getsockname`` returns."""
    return "@" + os.fsdecode(address[1:]) if isinstance(address, bytes) else address


def is_unix(sock: socket.socket) -> bool:
    return hasattr(socket, "AF_UNIX") and sock.family == socket.AF_UNIX


class UnixListener(socket.socket):
    """A listening Unix socket with a file. ``close`` removes the file, unless another server has replaced it."""

    __slots__ = ("_file", "_path")

    def __init__(self, path: str, *, mode: int, backlog: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = os.path.abspath(path)
        self._file: tuple[int, int] | None = None
        try:
            self.bind(path)
            self._file = file_at(self._path)
            os.chmod(path, mode)  # nobody can connect before listen()
            self.listen(backlog)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        # While this socket is open, the kernel gives its inode's number to no other file; and who starts in its place
        # before it is closed finds it alive.
        if self.fileno() >= 0 and self._file is not None and self._file == file_at(self._path):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        super().close()


def file_at(path: str) -> tuple[int, int] | None:
    """The device and inode of a file; None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def bind_unix(path: str, *, mode: int, backlog: int) -> socket.socket:
    """Listen at ``path``, with the rights ``mode``, or at ``@name``, which has no file and thus no rights.

    Replaces the file of a server that died. Raises OSError, also where another server listens, or the file is none of
    a socket.
    """
    if path.startswith("@"):
        return _bind_abstract(path, backlog)
    with _locked(Path(path).parent):
        _remove_stale(path)
        listener = UnixListener(path, mode=mode, backlog=backlog)
    listener.setblocking(False)
    return listener


def _bind_abstract(path: str, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address_of(path))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other servers from the same steps: each might find a stale file, and remove what another has just bound."""
    import fcntl  # not on Windows

    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:  # a directory that may be written to and not be read
        yield
        return
    try:
        end = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise OSError(errno.EBUSY, f"another process has locked the directory {directory}") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is not a socket")
    if _is_alive(path):
        raise OSError(errno.EADDRINUSE, "another server listens there")
    Path(path).unlink(missing_ok=True)


def _is_alive(path: str) -> bool:
    """Return True if a process has the socket open. Raises PermissionError where this one may not ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except PermissionError:
            raise
        except OSError:  # its queue is full (EAGAIN), or it is a datagram socket (EPROTOTYPE)
            return True
    return True


def is_own_user(sock: socket.socket) -> bool:
    """Return True if the process at the other end is of this user, or the administrator's, as far as the system tells.

    The permissions of a socket's file say the same, but an abstract one has none.
    """
    if sys.platform != "linux":
        return True
    _, user, _ = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return user in (0, os.geteuid())
