"""Bodies of REST calls: messages to publish, one or a list, with an error that says where."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies
from msgspec import UNSET, Raw

from pubsub.protocol.calls import NewMessage, NewMessages, TopicsQuery, check_names, decode_messages, make_publish
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.requests import MAX_MESSAGES

ID = "550e8400-e29b-41d4-a716-446655440000"


def no_id() -> str:
    raise AssertionError("the message has an id")


def test_one_message() -> None:
    message = decode_messages(f'{{"id":"{ID}","payload":{{"a" : 1.0}},"ttl_sec":5,"expect_seq":0,"other":1}}')
    assert isinstance(message, NewMessage)
    publish = make_publish("orders", message, no_id)
    assert (publish.topic, publish.message.id, bytes(publish.message.payload)) == ("orders", ID, b'{"a" : 1.0}')
    assert (publish.ttl_sec, publish.expect_seq, publish.request_id) == (5, 0, UNSET)


def test_a_message_without_an_id_gets_one() -> None:
    message = decode_messages('{"payload":null}')
    assert isinstance(message, NewMessage)
    publish = make_publish("orders", message, lambda: ID)
    assert (publish.message.id, bytes(publish.message.payload), publish.ttl_sec) == (ID, b"null", UNSET)


def test_a_list() -> None:
    for size in (1, MAX_MESSAGES):
        messages = decode_messages(json.dumps([{"payload": number} for number in range(size)]))
        assert isinstance(messages, list)
        assert [bytes(message.payload) for message in messages] == [b"%d" % number for number in range(size)]


@pytest.mark.parametrize("size", [0, MAX_MESSAGES + 1, 50_000])
def test_a_list_of_a_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(BadRequest, match=f"^the list: expected 1 to 1000 messages, got {size}$"):
        decode_messages(json.dumps([{"payload": 1}] * size))


@pytest.mark.parametrize(
    ("message", "index", "told"),
    [
        (NewMessage(id="x", payload=Raw(b"1")), None, "id: expected a UUID (8-4-4-4-12 hex digits), got 'x'"),
        (NewMessage(id="x", payload=Raw(b"1")), 0, "[0].id: expected a UUID (8-4-4-4-12 hex digits), got 'x'"),
        (NewMessage(id=ID, payload=Raw(b"9" * 5000)), 7, "[7].payload: expected numbers of at most 4300 digits"),
    ],
)
def test_the_error_of_a_message_has_its_index(message: NewMessage, index: int | None, told: str) -> None:
    with pytest.raises(BadRequest) as failure:
        make_publish("orders", message, no_id, index)
    assert str(failure.value) == told


def test_the_error_of_a_large_body_does_not_decode_it_again() -> None:
    """To look at what came would take longer than all that came before."""
    with pytest.raises(BadRequest, match=r"^\[0\]: expected a JSON object, got something else$"):
        decode_messages("[" + ",".join(["1"] * 500_000) + "]")


anything = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(max_size=5),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.sampled_from(["id", "payload", "ttl_sec", "expect_seq", "x"]), inner)
    ),
    max_leaves=12,
)


@hypothesis.given(anything)
def test_any_json_is_decoded_or_refused(value: Any) -> None:
    text = msgspec.json.encode(value).decode()
    try:
        found = decode_messages(text)
    except BadRequest:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=NewMessages)
    else:
        assert found == msgspec.json.decode(text, type=NewMessages)
        for message, original in zip(*((found, value) if isinstance(found, list) else ([found], [value])), strict=True):
            assert json.loads(bytes(message.payload)) == original["payload"]


@pytest.mark.parametrize("text", ["", "orders.", "a" * 255, "..", "~:_-.09azAZ"])
def test_parts_of_names(text: str) -> None:
    check_names(TopicsQuery(prefix=text, after=text))


@pytest.mark.parametrize("text", ["orders.*", ">", " ", "a b", "ä", "\n", "a\n", "\0", "/", "\u0660"])
def test_what_is_in_no_name(text: str) -> None:
    for field in ("prefix", "after"):
        with pytest.raises(BadRequest, match=f"^{field}: expected ASCII letters"):
            check_names(msgspec.structs.replace(TopicsQuery(), **{field: text}))
