"""Query parameters of a request as a value of their type. Nothing here knows a route."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import explain, shown

Query = TypeVar("Query", bound=msgspec.Struct)


def read_query(request: web.Request, kind: type[Query]) -> Query:
    """The query parameters as ``kind``. Raises BadRequest for one that is unknown, wrong, or given twice."""
    given: dict[str, str] = {}
    for name, text in request.query.items():
        if name in given:
            raise BadRequest(f"{shown(name)}: expected once")
        given[_printable(name)] = _printable(text)
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        explain(error, msgspec.json.encode(given).decode(), ())


def _printable(text: str) -> str:
    """The text without the surrogates that stand for bytes which are no UTF-8."""
    return text.encode(errors="replace").decode()
