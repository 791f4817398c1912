"""Requests of a client: the server accepts each of them."""

from __future__ import annotations

import json

import pytest

from pubsub.client.requests import (
    History,
    Ping,
    Position,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
    encode,
    is_topic,
    new_message,
)
from pubsub.protocol.requests import decode_request


@pytest.mark.parametrize(
    "request_",
    [
        Subscribe(topic="t", client_id="c", request_id="r"),
        Subscribe(topic="t", client_id="c", last_n=3, resume={"t": Position("e", 4)}),
        Unsubscribe(topic="t", client_id="c"),
        Publish(topic="t", message=new_message('{"a": 1.50}')),
        Ping(request_id="r"),
        History(topic="t", last_n=3),
    ],
)
def test_the_server_takes_what_a_client_sends(request_: Request) -> None:
    assert decode_request(encode(request_).decode()) == request_


def test_a_payload_is_sent_as_it_is_and_each_message_has_an_id_of_its_own() -> None:
    first, second = new_message('{"b": 1.50, "b": 2}'), new_message("null")
    assert first.id != second.id
    assert encode(Publish(topic="t", message=first)).endswith(b'"payload":{"b": 1.50, "b": 2}}}')
    assert json.loads(encode(Publish(topic="t", message=second)))["message"]["payload"] is None


@pytest.mark.parametrize(
    ("name", "valid"),
    [("orders.eu", True), ("a" * 255, True), ("a" * 256, False), ("", False), ("a..b", False), ("é", False)],
)
def test_names_of_topics(name: str, valid: bool) -> None:
    assert is_topic(name) is valid
