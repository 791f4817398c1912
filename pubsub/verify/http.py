"""HTTP/1.1 as it is on the wire: each request on a connection of its own, with all that a client library hides.

It must never follow a redirect, repeat a request or wait with a limit of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from yarl import URL

from pubsub.client.errors import ServerFault

MAX_HEAD_BYTES: Final = 64 * 2**10
MAX_BODY_BYTES: Final = 16 * 2**20
_READ_BYTES: Final = 64 * 2**10
_GZIP: Final = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Address:
    """The place of a deployment. ``tls`` is None for the certificates that the system trusts."""

    url: URL
    tls: ssl.SSLContext | None

    @property
    def host_field(self) -> str:
        """The field Host, as a browser sends it."""
        host = self.url.raw_host or ""
        host = f"[{host}]" if ":" in host else host
        return host if self.url.is_default_port() else f"{host}:{self.url.port}"

    @property
    def origin(self) -> str:
        """The origin of a page of this site."""
        return f"{self.url.scheme}://{self.host_field}"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Open a connection, and cut it off at the end. Raises OSError."""
        tls = (self.tls or ssl.create_default_context()) if self.url.scheme == "https" else None
        reader, writer = await asyncio.open_connection(self.url.host, self.url.port, ssl=tls, limit=MAX_HEAD_BYTES)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()  # a close over TLS would wait for the peer


class Connection:
    """Bytes in both directions. A read raises ServerFault at the end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, sent: bytes) -> None:
        """Write, and wait until the kernel has most of it. Raises OSError."""
        self._writer.write(sent)
        await self._writer.drain()

    async def read_exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise _ended(len(error.partial), size) from None

    async def read_until(self, end: bytes) -> bytes:
        try:
            return await self._reader.readuntil(end)
        except asyncio.IncompleteReadError as error:
            raise _ended(len(error.partial)) from None
        except asyncio.LimitOverrunError:
            raise ServerFault(
                f"expected HTTP, got {MAX_HEAD_BYTES:,} bytes without the end of a line or head"
            ) from None

    async def read_some(self) -> bytes:
        """Read what has come; empty at the end."""
        return await self._reader.read(_READ_BYTES)


def _ended(read: int, expected: int = 0) -> ServerFault:
    if not read:
        return ServerFault("the connection was closed without an answer")
    return ServerFault(f"the connection was closed after {read:,} bytes" + (f" of {expected:,}" if expected else ""))


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    fields: Mapping[str, str]
    body: bytes = b""

    def encode(self, address: Address) -> bytes:
        length = {"Content-Length": str(len(self.body))} if self.body else {}
        fields = {"Host": address.host_field} | length | dict(self.fields)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        path = address.url.raw_path.rstrip("/") + self.path
        return f"{self.method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. ``coding`` is its Content-Encoding, which the body no longer has."""

    status: int
    fields: http.client.HTTPMessage
    body: bytes

    @property
    def coding(self) -> str:
        return self.fields.get("Content-Encoding", "")


async def exchange(address: Address, request: Request) -> Answer:
    """Send a request on a new connection; return its answer. Raises OSError, ServerFault."""
    async with address.connect() as connection:
        return await ask(connection, address, request)


async def ask(connection: Connection, address: Address, request: Request) -> Answer:
    """Send a request and read its answer, also one that comes before the whole body has been sent."""
    sending = asyncio.create_task(connection.write(request.encode(address)))
    try:
        response = await read_head(connection)
        body = b""
        async for piece in response.pieces():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise ServerFault(f"expected an answer of at most {MAX_BODY_BYTES:,} bytes")
        return Answer(response.status, response.fields, body)
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        if not sending.cancelled():
            sending.exception()  # an answer counts, also if the server took only a part of the request


class Response:
    """The head of an answer, whose body is still to be read."""

    def __init__(self, connection: Connection, status: int, fields: http.client.HTTPMessage) -> None:
        self.status = status
        self.fields = fields
        self._connection = connection

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, without its codings. Raises ServerFault."""
        coding = self.fields.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip"):
            raise ServerFault(f"expected an answer as it is or with gzip, got the coding {coding!r}")
        stream = zlib.decompressobj(_GZIP)
        async for piece in self._coded_pieces():
            try:
                yield piece if coding == "identity" else stream.decompress(piece, MAX_BODY_BYTES)
            except zlib.error as error:
                raise ServerFault(f"the answer is damaged: {error}") from None

    async def _coded_pieces(self) -> AsyncIterator[bytes]:
        if self.status == 204:
            return
        if "chunked" in self.fields.get("Transfer-Encoding", "").lower():
            while size := _chunk_size(await self._connection.read_until(b"\r\n")):
                yield await self._connection.read_exactly(size)
                await self._connection.read_exactly(2)
            return
        length = self.fields.get("Content-Length")
        if length is None:
            while piece := await self._connection.read_some():
                yield piece
        elif not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            raise ServerFault(f"expected a Content-Length of at most {MAX_BODY_BYTES:,}, got {length!r}")
        elif int(length):
            yield await self._connection.read_exactly(int(length))


def _chunk_size(line: bytes) -> int:
    found = re.match(rb"([0-9a-fA-F]{1,7})[\s;]", line)
    if found is None:
        raise ServerFault(f"expected the size of a chunk, got {line[:40]!r}")
    return int(found[1], 16)


async def read_head(connection: Connection) -> Response:
    """Read the head of an answer, after those of interim answers (RFC 9110, 15.2). Raises ServerFault."""
    while True:
        head = await connection.read_until(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.[01] ([1-5]\d\d)\b", head)
        if line is None:
            raise ServerFault(f"expected an answer in HTTP/1.1, got {head[:40]!r}")
        if line[1] == b"101" or not line[1].startswith(b"1"):
            return Response(connection, int(line[1]), _read_fields(head.partition(b"\r\n")[2]))


def _read_fields(lines: bytes) -> http.client.HTTPMessage:
    try:
        return http.client.parse_headers(io.BytesIO(lines))
    except http.client.HTTPException as error:
        raise ServerFault(f"expected an answer in HTTP/1.1: {error}") from None
