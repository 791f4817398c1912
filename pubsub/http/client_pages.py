"""Pages of connections: those of this server, or of all servers one after the other, in the order of their ids.

A page of all takes two questions: for the number of rows that each server has, and for those that fit in the page.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from pubsub.http.app_keys import SERVICES
from pubsub.http.client_rows import describe, describe_ended
from pubsub.http.rendering import render_rows
from pubsub.http.scope import ask_others, server_of
from pubsub.protocol.answers import EndedRow
from pubsub.protocol.calls import MAX_CURSOR, Cursor
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.replies import encode
from pubsub.websocket.peer import Peer

if TYPE_CHECKING:
    from pubsub.cluster.cluster import Cluster

COUNT: Final = "clients.count"
OPEN: Final = "clients"
ENDED: Final = "clients.ended"
FIRST: Final = Cursor("", 0)


class Wanted(Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Connections of one client, or of all whose name begins with ``prefix``. ``limit``: the rows of a page."""

    prefix: str = ""
    client_id: str | None = None
    limit: int

    def matches(self, client_id: str) -> bool:
        return client_id.startswith(self.prefix) if self.client_id is None else client_id == self.client_id


class Asked(Struct, frozen=True, array_like=True, gc=False):
    """A question to one server: up to ``most`` rows after a number."""

    wanted: Wanted
    after: int
    most: int


class Rows(Struct, frozen=True, array_like=True, gc=False):
    """Rows as JSON, parted by commas. ``last``: the number of the last one; 0 if there is none."""

    text: bytes
    last: int


@dataclass(frozen=True, slots=True)
class Page:
    """``following``: the cursor of the next page. ``missing``: servers that did not answer."""

    rows: bytes
    following: str | None
    missing: Sequence[str] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode_asked = msgspec.msgpack.Decoder(Asked).decode
_decode_count = msgspec.msgpack.Decoder(int).decode
_decode_rows = msgspec.msgpack.Decoder(Rows).decode
_decode_ended = msgspec.json.Decoder(list[EndedRow]).decode


async def find_page(app: web.Application, cluster: Cluster | None, wanted: Wanted, cursor: Cursor) -> Page:
    """A page of open connections. Raises BadRequest for a cursor of another server, if only this one is wanted."""
    if cluster is not None:
        return await Pages(app, cluster, wanted, cursor).find()
    if cursor.server not in ("", server_of(app)):
        raise BadRequest(f"cursor: expected one of this server, got one of '{cursor.server}'")
    found = await find_open(app, wanted, cursor.after, wanted.limit + 1)
    rows = await render_open(app, found[: wanted.limit])
    return Page(rows.text, str(rows.last) if len(found) > wanted.limit else None)


async def find_open(app: web.Application, wanted: Wanted, after: int, most: int) -> list[Peer]:
    connections = app[SERVICES].connections
    return await connections.find(lambda peer: wanted.matches(peer.client_id), after=after, most=most)


async def render_open(app: web.Application, page: Sequence[Peer]) -> Rows:
    services, server = app[SERVICES], server_of(app)
    rows = await render_rows(page, lambda peer: encode(describe(peer, services.now(), server)))
    return Rows(rows, page[-1].number if page else 0)


class Pages:
    """A page of the open connections of all servers."""

    def __init__(self, app: web.Application, cluster: Cluster, wanted: Wanted, cursor: Cursor) -> None:
        self._app = app
        self._cluster = cluster
        self._wanted = wanted
        self._start = cursor.server or (cluster.server if cursor.after else "")
        self._after = cursor.after
        self._missing: set[str] = set()

    async def find(self) -> Page:
        counts = await self._count()
        shares: dict[str, int] = {}
        room = self._wanted.limit
        for server in sorted(counts):
            if shown := min(counts[server], room):
                shares[server] = shown
                room -= shown
        found = await self._fetch(shares)
        rows = b",".join(found[server].text for server in sorted(found) if found[server].text)
        following = None
        if sum(counts.values()) > self._wanted.limit:
            last = max(shares)
            following = f"{last}:{self._end_of(last, found)}"
        return Page(rows, following, sorted(self._missing))

    def _end_of(self, server: str, found: Mapping[str, Rows]) -> int:
        """The number after which a server goes on; after all if it does not answer."""
        if server not in found:
            return MAX_CURSOR
        return found[server].last or self._after_at(server)

    def _after_at(self, server: str) -> int:
        return self._after if server == self._start else 0

    async def _count(self) -> Mapping[str, int]:
        """The rows that each server has from the cursor on, as far as they can be needed."""
        most = self._wanted.limit + 1
        found = await self._ask(COUNT, {server: most for server in self._servers})
        return {server: _decode_count(answer) for server, answer in found.items()}

    async def _fetch(self, shares: Mapping[str, int]) -> Mapping[str, Rows]:
        return {server: _decode_rows(answer) for server, answer in (await self._ask(OPEN, shares)).items()}

    @property
    def _servers(self) -> list[str]:
        return [each for each in [*self._cluster.members.others, self._cluster.server] if each >= self._start]

    async def _ask(self, kind: str, most: Mapping[str, int]) -> dict[str, bytes]:
        """Ask servers for up to so many rows each. Those that get the same question get it together."""
        questions: dict[bytes, list[str]] = {}
        for server, count in most.items():
            body = _encode(Asked(self._wanted, self._after_at(server), count))
            questions.setdefault(body, []).append(server)
        answers = await asyncio.gather(*(self._ask_some(kind, body, servers) for body, servers in questions.items()))
        return {server: answer for each in answers for server, answer in each.items()}

    async def _ask_some(self, kind: str, body: bytes, servers: Sequence[str]) -> dict[str, bytes]:
        """Ask some servers, which may be this one."""
        own = self._cluster.server
        others = await ask_others(self._cluster, kind, body, [server for server in servers if server != own])
        self._missing.update(others.missing)
        if own not in servers:
            return {**others.found}
        return {**others.found, own: await ANSWERERS[kind](self._app, body)}


async def find_ended(app: web.Application, cluster: Cluster | None, wanted: Wanted, cursor: Cursor) -> Page:
    """A page of the connections that have ended, newest first; the cursor is the number of rows before it.

    Raises BadRequest for the cursor of a page of open ones.
    """
    if cursor.server:
        raise BadRequest(f"cursor: expected a number, got one of server '{cursor.server}'")
    end = cursor.after + wanted.limit
    lists = [list_ended(app, wanted)]
    others = await ask_others(cluster, ENDED, _encode(Asked(wanted, 0, end + 1)))
    for answer in others.found.values():
        lists.append(_decode_ended(answer))
        await asyncio.sleep(0)
    found = list(heapq.merge(*lists, key=lambda row: row.ended_at, reverse=True))
    rows = b",".join([encode(row) for row in found[cursor.after : end]])
    return Page(rows, str(end) if end < len(found) else None, others.missing)


def list_ended(app: web.Application, wanted: Wanted) -> list[EndedRow]:
    """Those of this server, newest first."""
    server = server_of(app)
    return [describe_ended(each, server) for each in app[SERVICES].departures.last if wanted.matches(each.client_id)]


# Answers to other servers


async def answer_count(app: web.Application, body: bytes) -> bytes:
    asked = _decode_asked(body)
    return _encode(len(await find_open(app, asked.wanted, asked.after, asked.most)))


async def answer_open(app: web.Application, body: bytes) -> bytes:
    asked = _decode_asked(body)
    return _encode(await render_open(app, await find_open(app, asked.wanted, asked.after, asked.most)))


async def answer_ended(app: web.Application, body: bytes) -> bytes:
    asked = _decode_asked(body)
    return encode(list_ended(app, asked.wanted)[: asked.most])


ANSWERERS: Final = {COUNT: answer_count, OPEN: answer_open, ENDED: answer_ended}
