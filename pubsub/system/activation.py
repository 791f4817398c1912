"""Sockets that systemd has opened for this process: socket activation, by the rules of sd_listen_fds(3).

Nothing here opens a socket of its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from pubsub.system.unix_socket import is_unix

FIRST: Final = 3  # the descriptor of the first of them
VARIABLES: Final = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class ActivationError(Exception):
    """A socket that was handed over can't be listened on. The text says what came, and what was expected."""


def take_sockets(environment: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that were handed over to this process, ready to accept; none if it was started without.

    Removes their variables, so that no child process takes them for its own. Raises ActivationError.
    """
    found = {name: environment.pop(name, "") for name in VARIABLES}
    if found["LISTEN_PID"] != str(os.getpid()):
        return []
    count = found["LISTEN_FDS"]
    if not count.isascii() or not count.isdigit():
        raise ActivationError(f"LISTEN_FDS: got {count!r}, expected a whole number")
    names = dict(enumerate(filter(None, found["LISTEN_FDNAMES"].split(":"))))
    return [_take(FIRST + number, names.get(number)) for number in range(int(count))]


def _take(descriptor: int, name: str | None) -> socket.socket:
    place = f"descriptor {descriptor} ({name})" if name else f"descriptor {descriptor}"
    expected = "expected a listening socket of TCP or Unix"
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        got = "a file" if _is_open(descriptor) else "nothing"
        raise ActivationError(f"LISTEN_FDS: {place}: got {got}, {expected}") from error
    if sock.type != socket.SOCK_STREAM or not (is_unix(sock) or sock.family in (socket.AF_INET, socket.AF_INET6)):
        raise ActivationError(f"LISTEN_FDS: {place}: got a socket of another kind, {expected}")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ActivationError(f"LISTEN_FDS: {place}: got one that does not listen, {expected} (Accept=no)")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
