"""A client's token, API key and trusted certificates, from flags and the environment. It must never show a secret."""

import argparse
import base64
import os
import ssl
from dataclasses import dataclass, field
from typing import Final

import msgspec

TOKEN_VARIABLE: Final = "PUBSUB_TOKEN"
API_KEY_VARIABLE: Final = "PUBSUB_API_KEY"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token, an API key and trusted certificates; empty, empty and None without.

    ``client_id`` is the one that the token allows. With ``tls`` None, the certificates are trusted that the system
    trusts.
    """

    token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    client_id: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return headers | ({"X-API-Key": self.api_key} if self.api_key else {})


def add_credential_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--token", metavar="JWT", default=os.environ.get(TOKEN_VARIABLE, ""),
        help=f"your token; in the environment other users cannot see it (default: {TOKEN_VARIABLE})")  # fmt: skip
    add("--api-key", metavar="KEY", default=os.environ.get(API_KEY_VARIABLE, ""),
        help=f"your key for REST calls, if the token does not allow them (default: {API_KEY_VARIABLE})")  # fmt: skip
    add_certificate_flag(parser)


def add_certificate_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust, in PEM (default: the system's)")


def read_credentials(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Credentials:
    """Make credentials of the flags above; an invalid flag ends the program with status 2 and an explanation."""
    try:
        client_id = _sub_of(chosen.token) if chosen.token else ""
        token, api_key = _sendable("--token", chosen.token), _sendable("--api-key", chosen.api_key)
        return Credentials(token, api_key, client_id, tls_of(chosen.ca))
    except ValueError as error:
        parser.error(str(error))


def _sendable(flag: str, secret: str) -> str:
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError(f"{flag}: expected printable ASCII characters without blanks")
    return secret


def _sub_of(token: str) -> str:
    """Read the ``sub`` of a token without checking its signature: the server does that."""
    try:
        _, payload, _ = token.split(".")
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except ValueError:  # msgspec's is one of them
        raise ValueError("--token: expected a JWT, which is three parts with dots between them, with a sub") from None
    return claims.sub


class _Claims(msgspec.Struct):
    sub: str


def tls_of(ca_file: str | None) -> ssl.SSLContext | None:
    """A context that trusts the certificates in a file; None without one. Raises ValueError, for people."""
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one of them
        raise ValueError(f"--ca: got {ca_file!r}, {error.strerror or error}") from None
