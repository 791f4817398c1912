"""Rows of an outbox, and lists of them that a server takes. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import UNSET, Raw, Struct

from pubsub.protocol.calls import NewMessage
from pubsub.protocol.requests import MAX_MESSAGES

LIST_BYTES: Final = 512 * 2**10
"""Of payloads: with the JSON around 1,000 messages less than 1 MiB, which a server takes unless it is set otherwise."""


class Row(Struct, frozen=True):
    """A committed row. ``payload``: JSON. ``ttl_sec``: the time that is left to it, None without an end."""

    number: int
    topic: str
    id: str
    payload: bytes
    ttl_sec: float | None

    @property
    def has_expired(self) -> bool:
        return self.ttl_sec is not None and self.ttl_sec <= 0

    def as_message(self) -> NewMessage:
        ttl_sec = UNSET if self.ttl_sec is None else self.ttl_sec
        return NewMessage(id=self.id, payload=Raw(self.payload), ttl_sec=ttl_sec)


def by_topic(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows of each topic, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.topic, []).append(row)
    return found


def lists_of(rows: Sequence[Row], most: int = MAX_MESSAGES) -> Iterator[Sequence[Row]]:
    """Split the rows of a topic into lists of up to ``most`` for one request each; a large row has one of its own."""
    start = size = 0
    for at, row in enumerate(rows):
        size += len(row.payload)
        if at > start and (at - start == most or size > LIST_BYTES):
            yield rows[start:at]
            start, size = at, len(row.payload)
    if start < len(rows):
        yield rows[start:]
