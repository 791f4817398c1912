"""The server behind a URL, for clients that connect sockets themselves. It must never send anything."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from yarl import URL

from pubsub.client.address import server_url, without_password
from pubsub.client.timed_socket import Deadline, TimedSocket, connect_tcp, connect_unix, wrap

_UNIX_SCHEMES: Final = {"unix": "http", "https+unix": "https"}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server. ``prefix``: the beginning of its paths. ``unix_path``: its Unix socket, in place of host and port.

    ``name`` is for people, without a password.
    """

    name: str
    host: str
    port: int
    prefix: str
    unix_path: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """The text of the header ``Host``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def connect(self, deadline: Deadline) -> TimedSocket:
        """Connect, with TLS if there is any. Raises OSError."""
        path = self.unix_path
        sock = connect_unix(path, deadline) if path else connect_tcp(self.host, self.port, deadline)
        return TimedSocket(wrap(sock, self.tls, self.host, deadline) if self.tls else sock, deadline)


def read_origin(text: str, tls: ssl.SSLContext | None) -> Origin:
    """Read the URL of a server: ``https://host/prefix`` (or http, ws, wss), or ``unix:/run/pubsub.sock``.

    Where ``tls`` is None, the certificates are trusted that the system trusts. Raises ValueError.
    """
    scheme, _, unix_path = text.partition(":")
    if scheme not in _UNIX_SCHEMES:
        return _at_host(server_url(text), tls)
    if not unix_path:
        raise ValueError(f"the URL must look like unix:/run/pubsub.sock, not '{text}'")
    return Origin(text, "localhost", 80, "", unix_path, _chosen(tls, _UNIX_SCHEMES[scheme], text))


def _at_host(url: URL, tls: ssl.SSLContext | None) -> Origin:
    name = without_password(url)
    return Origin(name, url.host or "", url.port or 0, url.raw_path.rstrip("/"), tls=_chosen(tls, url.scheme, name))


def _chosen(tls: ssl.SSLContext | None, scheme: str, name: str) -> ssl.SSLContext | None:
    if scheme == "https":
        return tls or ssl.create_default_context()
    if tls is not None:
        raise ValueError(f"tls: the URL must begin with https, got '{name}', which is not encrypted")
    return None
