"""The server's own TLS: certificate and key from files."""

from __future__ import annotations

import ssl


class Certificate:
    """``context`` is that of new connections; it may be replaced at any time. None without TLS."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context


def load_certificate(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Read the files; an empty ``key_file`` means that the first one has the key too.

    Raises OSError (ssl.SSLError is one) if they are not valid.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # A key that asks for a pass phrase would ask it of the terminal, and wait.
    context.load_cert_chain(cert_file, key_file or None, password=lambda: "")
    context.set_alpn_protocols(["http/1.1"])
    return context
