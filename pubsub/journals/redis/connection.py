"""One connection to Redis (RESP3): commands in order, their replies, and pushes between them. It decides nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import hiredis

from pubsub.core.journal import JournalError
from pubsub.journals.redis.address import Address, Login, Place

CONNECT_SECONDS: Final = 5.0

Reply = Any  # what hiredis makes of a reply: bytes, int, None, list, dict, or hiredis.ReplyError
Replied = Callable[[Reply], None]


class Lost(Exception):
    """The connection is lost, or was not made. The text is the reason, for the operator."""


class Refused(Exception):
    """Redis refuses a command. The text is its own."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]


# Encodes a command from a tuple of its arguments. The stub of hiredis has a tuple of one argument.
pack_command: Final = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)


def command(*arguments: str | bytes | int) -> bytes:
    """Encode a command."""
    return pack_command(arguments)


class Connection(asyncio.Protocol):
    """See the module. ``push`` gets channel and message of each push; ``lost`` the reason of the end, once.

    ``heard`` counts reads: if it grows, Redis answers.

    Both are called on the loop's thread, and ``push`` in one order with the replies.
    """

    transport: asyncio.Transport

    def __init__(self, push: Callable[[bytes, bytes], None], lost: Callable[[str], None]) -> None:
        self._push = push
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Replied] = deque()
        self._asking: set[asyncio.Future[None]] = set()
        self._closed = False
        self.heard = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop has its own class

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        self.heard += 1
        try:
            reader.feed(data)
            while not self._closed and (reply := reader.gets()) is not False:
                if type(reply) is hiredis.PushNotification and reply[0] == b"message":
                    self._push(reply[1], reply[2])
                else:  # the answer to SUBSCRIBE is a push too
                    waiting.popleft()(reply)
        except hiredis.ProtocolError as error:
            self.close(f"not a reply of Redis: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(str(exc) if exc else "the connection was closed")

    def send(self, encoded: bytes, replied: Replied) -> None:
        """Send a command. ``replied`` is not called once the connection is lost."""
        self._waiting.append(replied)
        self.transport.write(encoded)

    async def ask(self, *arguments: str | bytes | int) -> Reply:
        """Send a command and wait for its reply. Raises Refused and Lost."""
        return await self.ask_encoded(command(*arguments))

    async def ask_encoded(self, encoded: bytes, heard: Replied | None = None) -> Reply:
        """Send a command and wait for its reply. ``heard`` gets it before any push that follows it."""
        (reply,) = await self.ask_all([encoded], heard)
        return reply

    async def ask_all(self, commands: list[bytes], heard: Replied | None = None) -> list[Reply]:
        """Send commands together and wait for all replies. Raises Refused for the first that is refused, and Lost."""
        if self._closed:
            raise Lost("the connection was closed")
        replies: list[Reply] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(reply: Reply) -> None:
            replies.append(reply)
            if heard is not None and not isinstance(reply, hiredis.ReplyError):
                heard(reply)
            if len(replies) == len(commands) and not done.done():
                done.set_result(None)

        self._waiting += [take] * len(commands)
        self.transport.write(b"".join(commands))
        self._asking.add(done)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await done
        except TimeoutError:
            raise Lost(f"no answer for {CONNECT_SECONDS:g} s") from None
        finally:
            self._asking.discard(done)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(str(reply))
        return replies

    def close(self, reason: str) -> None:
        """End the connection at once. The first reason counts."""
        if not self._closed:
            self._closed = True
            self.transport.abort()
            for each in self._asking:
                if not each.done():
                    each.set_exception(Lost(reason))
            self._lost(reason)


async def connect(
    address: Address,
    place: Place,
    login: Login,
    push: Callable[[bytes, bytes], None],
    lost: Callable[[str], None],
) -> tuple[Connection, dict[bytes, Reply]]:
    """Open a connection and log in; returns it with the answer to HELLO. Raises Lost and Refused."""
    loop = asyncio.get_running_loop()

    def make() -> Connection:
        return Connection(push, lost)

    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if place.port:
                tls = make_tls(address) if address.tls else None
                _, connection = await loop.create_connection(make, place.host, place.port, ssl=tls)
            else:
                _, connection = await loop.create_unix_connection(make, place.host)
    except TimeoutError:
        raise Lost(f"no connection for {CONNECT_SECONDS:g} s") from None
    except OSError as error:  # ssl.SSLError too
        raise Lost(error.strerror or str(error)) from None
    try:
        return connection, await connection.ask(*_hello(login))
    except BaseException:
        connection.close("it was not needed")
        raise


def _hello(login: Login) -> list[str | bytes | int]:
    user = ["AUTH", login.username or "default", login.password] if login.password else []
    return ["HELLO", 3, *user, "SETNAME", "pubsub"]  # the name is for CLIENT LIST


def check_tls(address: Address) -> None:
    """Raise JournalError if the files of ``rediss://`` cannot be used."""
    for option, file in (("ca", address.ca), ("cert", address.cert), ("key", address.key)):
        if not file:
            continue
        try:
            Path(file).open("rb").close()
        except OSError as error:
            raise JournalError(f"JOURNAL_URL: {option}: cannot read {file!r}: {error.strerror}") from None
    try:
        make_tls(address)
    except OSError as error:
        raise JournalError(f"JOURNAL_URL: ca, cert, key: expected PEM files, got {error}") from None


def make_tls(address: Address) -> ssl.SSLContext:
    """The TLS context of ``rediss://``. Raises OSError if a file cannot be read."""
    context = ssl.create_default_context(cafile=address.ca or None)
    if address.cert:
        context.load_cert_chain(address.cert, address.key or None)
    return context
