"""Where the server is, and why it could not be reached."""

import os
import ssl

from yarl import URL

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Unreachable(Exception):
    """There is no connection, or no answer came; the text says why."""


def server_url(text: str) -> URL:
    """The base URL of a server, from what a person gave for it; raises ``ValueError``.

    A WebSocket's URL is taken for its server's: ``ws://host:8080/ws`` is ``http://host:8080``.
    """
    url = URL(text)
    if url.scheme not in _SCHEMES or not url.host:
        raise ValueError(f"the URL must look like http://127.0.0.1:8080 (or https, ws, wss), not '{text}'")
    path = url.path.rstrip("/").removesuffix("/ws")
    return url.with_scheme(_SCHEMES[url.scheme]).with_path(path)


def without_password(url: URL) -> str:
    return str(url.with_user(None)).rstrip("/")


def cause_of(error: Exception) -> str:
    """A failure to connect in the system's plain words, without aiohttp's account of its attempts."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message} (--ca names other certificates to trust)"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if not isinstance(cause, OSError):
        return str(error)
    if cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    return cause.strerror or str(error) or "no answer in time"
