"""Query parameters and bodies of REST calls as types, and the decoding of bodies.

The names and shapes are the contract's (docs/protocol.md). No I/O, and no decision about topics or clients.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.protocol.requests import MAX_HISTORY_LIMIT, Count

MAX_TOPIC: Final = 255  # characters of a name
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000

NamePart = Annotated[str, Meta(max_length=MAX_TOPIC)]

_could_be_in_a_name = re.compile(r"[A-Za-z0-9_\-:~.]*", re.ASCII).fullmatch


class TopicsQuery(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A page of the topics: those whose name begins with ``prefix`` and comes after ``after``."""

    prefix: NamePart = ""
    after: NamePart = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE


def check_names(wanted: TopicsQuery) -> None:
    """Raise BadRequest for a text that no name of a topic can have in it."""
    for field in ("prefix", "after"):
        text: str = getattr(wanted, field)
        if not _could_be_in_a_name(text):
            raise BadRequest(f"{field}: expected ASCII letters, digits and _ - . : ~, got {shown(text)}")


class HistoryQuery(Struct, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Kept messages of a topic: ``limit`` of those after ``after``, or the last ``last_n``."""

    after: Count | UnsetType = UNSET
    last_n: Count | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_LIMIT)] = MAX_HISTORY_LIMIT
