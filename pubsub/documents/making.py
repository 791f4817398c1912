"""Makes the documents as bytes. It is imported at the first request of one: 1 MiB that few servers need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from pubsub.documents.asyncapi import make_asyncapi
from pubsub.documents.openapi import make_openapi
from pubsub.documents.page import make_page

MAKERS: Final[Mapping[str, Callable[[], bytes]]] = {
    "openapi.json": lambda: msgspec.json.encode(make_openapi()),
    "asyncapi.json": lambda: msgspec.json.encode(make_asyncapi()),
    "docs": lambda: make_page(make_openapi(), make_asyncapi()).encode(),
}


def make_document(name: str) -> bytes:
    return MAKERS[name]()
