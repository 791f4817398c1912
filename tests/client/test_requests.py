"""Requests of a client: the server accepts each of them."""

from __future__ import annotations

import pytest
from msgspec import Raw

from pubsub.client.requests import (
    History,
    Message,
    Ping,
    Position,
    Publish,
    Request,
    Subscribe,
    Unsubscribe,
    encode,
    is_topic,
)
from pubsub.protocol.requests import decode_request


@pytest.mark.parametrize(
    "request_",
    [
        Subscribe(topic="t", client_id="c", request_id="r"),
        Subscribe(topic="t", client_id="c", last_n=3, resume={"t": Position("e", 4)}),
        Unsubscribe(topic="t", client_id="c"),
        Publish(topic="t", message=Message("550e8400-e29b-41d4-a716-446655440000", Raw(b'{"a": 1.50}'))),
        Ping(request_id="r"),
        History(topic="t", last_n=3),
    ],
)
def test_the_server_takes_what_a_client_sends(request_: Request) -> None:
    assert decode_request(encode(request_).decode()) == request_


@pytest.mark.parametrize(
    ("name", "valid"),
    [("orders.eu", True), ("a" * 255, True), ("a" * 256, False), ("", False), ("a..b", False), ("é", False)],
)
def test_names_of_topics(name: str, valid: bool) -> None:
    assert is_topic(name) is valid
