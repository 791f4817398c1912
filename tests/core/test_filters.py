"""Filters: conditions in CEL on events, and joins of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pubsub.core.filters import Filter, Filters, Subject
from pubsub.protocol.errors import BadRequest


@pytest.fixture(scope="module")
def filters() -> Filters:
    return Filters()


def subject(payload: object, **more: object) -> Subject:
    """An event with this payload, as the journal makes it."""
    message = {"id": "m1", "payload": payload}
    event = {"type": "event", "topic": "orders.eu", "message": message, "seq": 1, "ts": "2024-01-01T00:00:00Z"}
    return Subject(msgspec.json.encode(event | more))


def make(filters: Filters, text: str, params: object = None) -> Filter:
    return filters.compile(text, None if params is None else Raw(msgspec.json.encode(params)))


@pytest.mark.parametrize(
    ("text", "payload", "params", "expected"),
    [
        ("payload.amount > 100 && payload.currency == params.currency",
         {"amount": 150, "currency": "USD"}, {"currency": "USD"}, True),
        ("payload.amount > 100 && payload.currency == params.currency",
         {"amount": 150, "currency": "USD"}, {"currency": "EUR"}, False),
        ("id == 'm1' && topic == 'orders.eu'", None, None, True),
        ("has(payload.a) || payload.b == 1", {"b": 1}, None, True),
        ("payload.a.b['c'].d == 1", {"a": {"b": {"c": {"d": 1}}}}, None, True),
    ],
)  # fmt: skip
def test_a_filter_is_a_condition(filters: Filters, text: str, payload: Any, params: Any, expected: bool) -> None:
    assert make(filters, text, params).matches(subject(payload)) is expected


def test_a_text_that_does_not_parse_is_refused_and_the_error_says_where(filters: Filters) -> None:
    with pytest.raises(BadRequest, match=r"^filter: at character 14: Syntax error"):
        make(filters, "payload.a == ")
