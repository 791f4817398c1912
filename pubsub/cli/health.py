"""``pubsub health``: exit status 0 if a server is healthy, 1 if it is not."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import socket
import ssl
import sys
import urllib.error
import urllib.request
from typing import Final

from pubsub.client.credentials import add_certificate_flag, tls_of
from pubsub.settings_reader import read_settings
from pubsub.system.unix_socket import address_of

HEALTH_WAIT: Final = 5.0  # seconds


def run_health(flags: list[str]) -> int:
    parser = argparse.ArgumentParser("pubsub health", description="Exit status 0 if a server is healthy, 1 if not.")
    parser.add_argument("--url", help="the server, also unix:/path (default: the one that the settings would start)")
    add_certificate_flag(parser)
    chosen = parser.parse_args(flags)
    url = chosen.url or read_settings([]).own_url
    try:
        tls = tls_of(chosen.ca)
    except ValueError as error:
        parser.error(str(error))
    if tls is None and chosen.url is None:
        # The server's own certificate need not be one for 127.0.0.1, and nothing is between the two.
        tls = ssl._create_unverified_context()
    try:
        status, text = ask(url, tls)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    if status != http.client.OK:
        print(f"{url}: {status} {text}", file=sys.stderr)
        return 1
    print(text)
    return 0


def ask(url: str, tls: ssl.SSLContext | None) -> tuple[int, str]:
    """Return status and text of the server's answer. Raises OSError, ValueError, HTTPException.

    With ``tls`` None, the certificates are trusted that the system trusts.
    """
    scheme, _, path = url.partition(":")
    if scheme in ("unix", "https+unix"):
        with contextlib.closing(UnixConnection(path, secure=scheme != "unix")) as connection:
            connection.request("GET", "/health")
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_WAIT, context=tls) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with TLS where ``secure``."""

    def __init__(self, path: str, *, secure: bool) -> None:
        super().__init__("localhost", timeout=HEALTH_WAIT)
        self._path = path
        self._secure = secure

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(address_of(self._path))
        if self._secure:
            self.sock = ssl._create_unverified_context().wrap_socket(self.sock)  # nothing is between here either
