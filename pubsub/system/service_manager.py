"""Messages to systemd: this process has started, its loop runs, it ends.

The rules are those of sd_notify(3) and sd_watchdog_enabled(3). Without systemd nothing happens.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from pubsub.system.unix_socket import address_of


def tell_started() -> None:
    """Tell that this process serves, and from then on that its loop runs, as often as the watchdog wants it."""
    _tell("READY=1")
    if period := watchdog_period():
        _tell_alive(asyncio.get_running_loop(), period / 2)


def tell_end() -> None:
    """Tell that this process shuts down."""
    _tell("STOPPING=1")


def watchdog_period() -> float:
    """The seconds after which systemd ends a process that is silent; 0 if it does not watch this one."""
    watched, period = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if period.isdecimal() and watched in ("", str(os.getpid())) else 0


def _tell_alive(loop: asyncio.AbstractEventLoop, pause: float) -> None:
    _tell("WATCHDOG=1")
    loop.call_later(pause, _tell_alive, loop, pause)


def _tell(state: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:  # it is gone, or full
        sock.setblocking(False)
        sock.sendto(state.encode(), address_of(path))
