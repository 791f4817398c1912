"""Payloads as JSON, and JSON as the types of users."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pubsub.client.errors import PayloadError
from pubsub.client.payloads import decoder_of, encode_payload


class Order(msgspec.Struct):
    amount: int


class Model(pydantic.BaseModel):
    amount: int
    at: datetime.datetime | None = None


@dataclass
class Plain:
    amount: int


class Typed(TypedDict):
    amount: int


NOON = datetime.datetime(2025, 8, 25, 12, tzinfo=datetime.UTC)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)  # fmt: skip


@given(values)
def test_json_comes_back_as_it_went(value: Any) -> None:
    assert decoder_of(Any)(encode_payload(value)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 5),
        (list[int], [1, 2]),
        (dict[str, Order], {"a": Order(5)}),
        (Order | None, None),
        (Literal["a", "b"], "b"),
        (Order, Order(5)),
        (Plain, Plain(5)),
        (Typed, {"amount": 5}),
        (Model, Model(amount=5, at=NOON)),
        (datetime.datetime, NOON),
        (Any, {"a": [1, None]}),
    ],
    ids=str,
)
def test_values_of_a_type_come_back(kind: Any, value: Any) -> None:
    assert decoder_of(kind)(encode_payload(value)) == value


def test_models_within_other_values() -> None:
    assert bytes(encode_payload([Model(amount=5)])) == b'[{"amount":5,"at":null}]'


def test_json_text_is_passed_on_as_it_is() -> None:
    raw = Raw(b'{ "a": 1.50 }')
    assert encode_payload(raw) is not None
    assert bytes(encode_payload(raw)) == b'{ "a": 1.50 }'
    assert bytes(decoder_of(Raw)(raw)) == b'{ "a": 1.50 }'


@pytest.mark.parametrize(
    "payload",
    [object(), {1, object()}, "\ud800", {("a", "b"): 1}, Raw(b"{"), Raw(b"1 2"), Raw(b"")],
    ids=["an object", "a set of objects", "a surrogate", "a key", "open JSON", "two values", "no JSON"],
)
def test_what_can_not_be_written_as_json(payload: Any) -> None:
    with pytest.raises(PayloadError, match="payload: expected what can be written as JSON") as raised:
        encode_payload(payload)
    assert raised.value.event is None


def test_a_value_that_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PayloadError, match="payload: expected"):
        encode_payload(endless)


@pytest.mark.parametrize("kind", [Order, Plain, Typed, Model, int, datetime.datetime])
def test_json_of_another_type_is_a_value_error(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoder_of(kind)(Raw(b'{"amount":"much"}'))


@pytest.mark.parametrize("kind", [3, "int"], ids=repr)
def test_what_is_no_type(kind: Any) -> None:
    with pytest.raises((TypeError, NameError)):
        decoder_of(kind)
