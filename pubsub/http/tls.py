"""The server's own TLS: certificate and key from files, and again from them when they are new."""

from __future__ import annotations

import logging
import ssl

log = logging.getLogger(__name__)


class Certificate:
    """``context`` is for the listener; after :meth:`renew` new connections get the new certificate, old ones stay.

    Raises OSError (ssl.SSLError is one) if the files are not valid.
    """

    def __init__(self, cert_file: str, key_file: str) -> None:
        self._files = (cert_file, key_file or None)
        self.context = self._load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        self.context.set_alpn_protocols(["http/1.1"])

    def renew(self) -> None:
        """Read the files again; invalid ones change nothing."""
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # to try them
            self._load(self.context)
        except OSError as error:
            log.error("TLS certificate not renewed: %(error)s", {"error": str(error)})
        else:
            log.info("TLS certificate renewed")

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        # A key that asks for a pass phrase would ask it of the terminal, and wait.
        context.load_cert_chain(*self._files, password=lambda: "")
        return context
