"""Query parameters of a request as a value of their type. Nothing here knows a route."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

import msgspec
import msgspec.inspect
from aiohttp import web

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import explain, shown

Query = TypeVar("Query", bound=msgspec.Struct)


def read_query(request: web.Request, kind: type[Query]) -> Query:
    """The query parameters as ``kind``. Raises BadRequest for one that is unknown, wrong, or given twice.

    A parameter that is a list in ``kind`` may be given several times.
    """
    lists = _lists_of(kind)
    given: dict[str, str | list[str]] = {
        name: [_printable(text) for text in request.query.getall(name)] for name in lists if name in request.query
    }
    for name, text in request.query.items():
        if name in lists:
            continue
        if name in given:
            raise BadRequest(f"{shown(name)}: expected once")
        given[_printable(name)] = _printable(text)
    return _convert(given, kind)


def read_known(request: web.Request, kind: type[Query]) -> Query:
    """The query parameters that ``kind`` knows; others mean nothing. Raises BadRequest as read_query."""
    given: dict[str, str | list[str]] = {}
    for name in kind.__struct_fields__:
        texts = request.query.getall(name, ())
        if len(texts) > 1:
            raise BadRequest(f"{shown(name)}: expected once")
        if texts:
            given[name] = _printable(texts[0])
    return _convert(given, kind)


def _convert(given: dict[str, str | list[str]], kind: type[Query]) -> Query:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        explain(error, msgspec.json.encode(given).decode(), _choices_of(kind, field))


def _choices_of(kind: type[msgspec.Struct], name: str) -> Sequence[str]:
    """The values that a field may have, if they are a fixed set."""
    fields = msgspec.inspect.type_info(kind)
    assert isinstance(fields, msgspec.inspect.StructType), "it is a Struct"
    kinds = [each.type for each in fields.fields if each.encode_name == name]
    return [str(value) for each in kinds if isinstance(each, msgspec.inspect.LiteralType) for value in each.values]


@cache
def _lists_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The names of the fields that are lists."""
    fields = msgspec.inspect.type_info(kind)
    assert isinstance(fields, msgspec.inspect.StructType), "it is a Struct"
    return frozenset(each.encode_name for each in fields.fields if isinstance(each.type, msgspec.inspect.ListType))


def _printable(text: str) -> str:
    """The text without the surrogates that stand for bytes which are no UTF-8."""
    return text.encode(errors="replace").decode()
