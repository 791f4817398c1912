"""Opens the sockets that the settings name, and tells of them in the log. It imports no aiohttp: see workers/."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Final

from pubsub.http.listener import BACKLOG, bind
from pubsub.settings import Settings
from pubsub.system.unix_socket import bind_unix, is_unix, path_of

log = logging.getLogger(__name__)

UNIX_SCHEMES: Final = {"http": "unix", "https": "https+unix"}  # as `pubsub health --url` takes them


class ListenError(OSError):
    """The server cannot listen. The text says where, and why."""


def log_configuration(settings: Settings) -> None:
    log.info(
        "Configuration loaded: Port=%(port)d, RingBuffer=%(ring_buffer)d, SubscriberQueue=%(subscriber_queue)d",
        {
            "port": settings.port,
            "ring_buffer": settings.ring_buffer_size,
            "subscriber_queue": settings.subscriber_queue_size,
        },
    )


async def open_sockets(settings: Settings, handed_over: Sequence[socket.socket] = ()) -> Sequence[socket.socket]:
    """Return the sockets that were handed over, or else listen where HOST and PORT say. Raises ListenError."""
    if handed_over:
        log.info("Sockets taken over from systemd: %(count)d; HOST and PORT do not count", {"count": len(handed_over)})
        return handed_over
    try:
        if settings.unix_path:
            return [bind_unix(settings.unix_path, mode=int(settings.socket_mode, 8), backlog=BACKLOG)]
        return await bind(settings.host, settings.port)
    except OSError as error:
        place = settings.host if settings.unix_path else f"{settings.host} port {settings.port}"
        reason = (error.strerror or "").partition(" (while")[0]  # Python adds the address, which stands there already
        raise ListenError(f"can't listen on {place}: {reason}") from error


def log_addresses(sockets: Sequence[socket.socket], scheme: str) -> None:
    for sock in sockets:
        if is_unix(sock):
            path = path_of(sock.getsockname())
            log.info("Listening on %(scheme)s:%(path)s", {"scheme": UNIX_SCHEMES[scheme], "path": path})
            continue
        host, port = sock.getsockname()[:2]
        log.info(
            "Listening on %(scheme)s://%(host)s:%(port)d",
            {"scheme": scheme, "host": f"[{host}]" if ":" in host else host, "port": port},
        )


def scheme_of(settings: Settings) -> str:
    return "https" if settings.tls_cert_file else "http"
