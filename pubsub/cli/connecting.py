"""The client of a command, made from its flags, and remarks on its connection. It must never print an event."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pubsub.cli.running import remark
from pubsub.client import State, StateChange
from pubsub.client.credentials import Credentials, read_credentials
from pubsub.client.flags import add_server_flags

if TYPE_CHECKING:
    from pubsub.client import Client


def add_client_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the server, for credentials and for the client's id."""
    add_server_flags(parser)
    parser.add_argument("--client", metavar="ID", help="your client id (default: that of the token, or a random one)")


def read_client(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> Credentials:
    """Make credentials of the flags above; an invalid flag ends the program with status 2 and an explanation."""
    credentials = read_credentials(parser, chosen)
    if chosen.client and credentials.client_id not in ("", chosen.client):
        parser.error(f"--client: got {chosen.client!r}, but the token is that of {credentials.client_id!r}")
    return credentials


def make_client(name: str, chosen: argparse.Namespace, credentials: Credentials) -> Client:
    """Make the client of the command ``name``, which is told of a lost connection on standard error."""
    from pubsub.client import Client  # which imports aiohttp: --help and a wrong flag do without

    return Client(
        str(chosen.url),
        client_id=chosen.client or credentials.client_id or None,
        token=credentials.token or None,
        api_key=credentials.api_key or None,
        tls=credentials.tls,
        connect_timeout=0,
        on_state=Remarks(name).note,
    )


class Remarks:
    """Tells each news of the connection once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = ""
        self._was_open = False

    def note(self, change: StateChange) -> None:
        match change.state:
            case State.OPEN if self._was_open:
                self._tell("connected again")
            case State.CONNECTING if self._was_open and change.error is not None:
                self._tell(f"{change.reason}; trying again")
            case _:
                pass
        self._was_open = self._was_open or change.state is State.OPEN

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            remark(self._name, text)
