"""Query parameters that are unknown, wrong or given twice: a 400 that names them."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp import web
from yarl import URL

from pubsub.http.query import read_query
from pubsub.protocol.calls import HistoryQuery
from pubsub.protocol.errors import BadRequest, error_body


class Asked:
    """A request, as far as its query is asked for."""

    def __init__(self, query: str) -> None:
        self.query: Any = URL(f"/topics/orders/messages?{query}", encoded=True).query


def read(query: str) -> HistoryQuery:
    return read_query(cast("web.Request", Asked(query)), HistoryQuery)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", HistoryQuery()),
        ("last_n=0", HistoryQuery(last_n=0)),
        ("after=17&limit=1000", HistoryQuery(after=17, limit=1000)),
        ("%61fter=%317", HistoryQuery(after=17)),
        (f"after={'9' * 40}", HistoryQuery(after=int("9" * 40))),
    ],
    ids=ascii,
)
def test_good_ones(query: str, expected: HistoryQuery) -> None:
    assert read(query) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("last_n=x", "last_n: expected a whole number, got 'x'"),
        ("last_n=", "last_n: expected a whole number, got ''"),
        ("last_n", "last_n: expected a whole number, got ''"),
        ("last_n=-1", "last_n: expected a whole number >= 0, got '-1'"),
        ("last_n=1.5", "last_n: expected a whole number, got '1.5'"),
        ("last_n=%D9%A3", "last_n: expected a whole number, got '\u0663'"),
        ("last_n=%ff", "last_n: expected a whole number, got '\ufffd'"),
        ("last_n=1%00", "last_n: expected a whole number, got '1\\x00'"),
        ("last_n=1\udcff", "last_n: expected a whole number, got '1?'"),
        ("limit=0", "limit: expected a whole number >= 1, got '0'"),
        ("limit=1001", "limit: expected a whole number <= 1000, got '1001'"),
        ("limit=" + "9" * 6000, f"limit: expected a number in range, got '{'9' * 59}…"),
        ("last_n=1&last_n=1", "'last_n': expected once"),
        ("last=1", "'last': unknown here"),
        ("Last_n=1", "'Last_n': unknown here"),
        ("a\udcff=1", "'a?': unknown here"),
        ("=1", "'': unknown here"),
        ("last_n=1&%0A=1", "'\\n': unknown here"),
        ("last_n=1;limit=2", "last_n: expected a whole number, got '1;limit=2'"),
    ],
    ids=lambda value: ascii(value[:16]),
)
def test_bad_ones(query: str, told: str) -> None:
    with pytest.raises(BadRequest) as failure:
        read(query)
    assert str(failure.value) == told
    assert error_body(str(failure.value))
