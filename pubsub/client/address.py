"""The address of a server, and the reason why the server could not be reached. It must never connect."""

import os
import ssl
from collections.abc import Mapping
from typing import Final

from yarl import URL

ANSWER_WAIT_SEC: Final = 10.0
"""A server that has not answered a request or a handshake within this time counts as unreachable."""
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def server_url(text: str) -> URL:
    """Make the base URL of a server out of what a person typed; raises ``ValueError``.

    The URL of the WebSocket stands for its server: ``ws://host:8080/ws`` is ``http://host:8080``.
    """
    url = URL(text)
    if url.scheme not in _SCHEMES or not url.host:
        raise ValueError(f"the URL must look like http://127.0.0.1:8080 (or https, ws, wss), not '{text}'")
    path = url.path.rstrip("/").removesuffix("/ws")
    return url.with_scheme(_SCHEMES[url.scheme]).with_path(path)


def websocket_url(base: URL, client_id: str) -> URL:
    return (base / "ws").with_query(client_id=client_id)


def events_url(base: URL, topic: str, query: Mapping[str, str]) -> URL:
    """Return the URL of a topic's events as Server-Sent Events."""
    return (base / "topics" / topic / "events").with_query(query)


def without_password(url: URL) -> str:
    return str(url.with_user(None)).rstrip("/")


def connect_error(url: URL, error: Exception) -> str:
    """Say that the server at ``url`` can't be reached, with the cause in the words of the operating system."""
    return f"cannot reach {without_password(url.origin())}: {cause_of(error)}"


def cause_of(error: Exception) -> str:
    """Describe a failure to connect or to send in the words of the operating system, without aiohttp's own."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message} (--ca or tls= name others to trust)"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {getattr(cause, 'reason', None) or cause}"
    if not isinstance(cause, OSError):
        return str(error)
    if cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    return cause.strerror or str(error) or "no answer in time"
