"""Cursors of streams that another server had: a client that moves from server to server resumes where it was.

A server that lives is asked for them. One that ends hands them over to all others; what was left of one that was killed
is not known, and the client is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import msgspec
from aiohttp import web

from pubsub.http.app_keys import CLUSTER, STREAMS
from pubsub.http.scope import ask_others
from pubsub.sse.cursors import Cursors
from pubsub.sse.opening import Wanted
from pubsub.sse.run_log import KeptCursor

KIND: Final = "cursor"
HANDED_OVER: Final = "cursors"  # the kind of messages on the bus
BYTES_AT_ONCE: Final = 32 * 1024
MOST_BYTES: Final = 48 * 1024  # of one cursor: about 3,000 positions; a larger one is not handed over
MOST_IN_ALL: Final = 16 * 1024 * 1024  # bytes that an end hands over, those of the newest streams

_encode = msgspec.msgpack.Encoder().encode
_decode_id = msgspec.msgpack.Decoder(str).decode
_decode_positions = msgspec.msgpack.Decoder(dict[int, int] | None).decode
_decode_cursors = msgspec.msgpack.Decoder(list[KeptCursor]).decode


async def find_elsewhere(app: web.Application, wanted: Wanted) -> Wanted:
    """Ask the other servers for the positions behind an id that is not known here. Raises BadRequest, see Cursors."""
    text, cluster = wanted.last_event_id, app.get(CLUSTER)
    if cluster is None or not text or wanted.is_one_topic or app[STREAMS].cursors.find(text) is not None:
        return wanted
    others = await ask_others(cluster, KIND, _encode(text))
    found = [positions for each in others.found.values() if (positions := _decode_positions(each)) is not None]
    return replace(wanted, elsewhere=found[0]) if found else wanted


async def answer_cursor(app: web.Application, body: bytes) -> bytes:
    """The positions behind an id, for another server."""
    return _encode(app[STREAMS].cursors.find(_decode_id(body)))


def adopt_cursors(cursors: Cursors, data: bytes) -> None:
    """Take over the cursors of a server that ends."""
    for kept in _decode_cursors(data):
        cursors.adopt(kept)


async def hand_over(app: web.Application) -> None:
    """Tell the other servers the cursors of the streams that have ended here, the newest first."""
    cluster = app[CLUSTER]
    if not cluster.members.others:
        return
    for message in messages(app[STREAMS].cursors):
        cluster.tell(HANDED_OVER, message)
        await asyncio.sleep(0)


def messages(cursors: Cursors) -> Iterator[bytes]:
    """The cursors in messages for the bus."""
    kept: list[KeptCursor] = []
    size = in_all = 0
    for cursor in cursors.ended:
        if cursor.size > MOST_BYTES:
            continue
        if in_all + cursor.size > MOST_IN_ALL:
            break
        if size and size + cursor.size > BYTES_AT_ONCE:
            yield _encode(kept)
            kept, size = [], 0
        kept.append(cursor.keep())
        size += cursor.size
        in_all += cursor.size
    if kept:
        yield _encode(kept)
