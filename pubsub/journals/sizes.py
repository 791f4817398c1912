"""The memory of publishes that wait for their journal. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pubsub.protocol.requests import Publish

APPEND_BYTES: Final = 500  # memory of a publish without its payload


def size_of(requests: Sequence[Publish]) -> int:
    """The bytes of publishes that wait."""
    size = APPEND_BYTES * len(requests)
    for request in requests:
        size += len(request.message.payload)
    return size
