"""Positions in acks and requests, and those that users give back."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pubsub.client.events import Event, Position
from pubsub.client.positions import MAX_RESUME_BYTES, limit_positions, positions_of, read_positions
from pubsub.client.replies import Ack
from pubsub.client.requests import MAX_POSITIONS
from pubsub.protocol.replies import TopicPosition


def test_the_positions_of_an_ack() -> None:
    topics = {"o.eu": TopicPosition("e", 3, True)}
    assert positions_of("o.*", Ack(topic="o.*", topics=topics)) == topics
    assert positions_of("o", Ack(topic="o", epoch="e", seq=3, recovered=False)) == {"o": TopicPosition("e", 3, False)}
    assert positions_of("o", Ack(topic="o", epoch="e", seq=3)) == {"o": TopicPosition("e", 3)}


@pytest.mark.parametrize(
    "given",
    [{"o.eu": Position("e", 3)}, {"o.eu": {"epoch": "e", "seq": 3}}, {"o.eu": {"epoch": "e", "seq": 3, "x": 1}}],
)
def test_positions_are_taken_as_they_were_given_out_or_as_json(given: Any) -> None:
    assert read_positions("o.*", given) == {"o.eu": Position("e", 3)}
    assert read_positions("sales", given) == {}


@pytest.mark.parametrize(
    "given", [{"o": 3}, {"o": {"seq": 3}}, {"o": {"epoch": 1, "seq": 3}}, {"o": {"epoch": "e", "seq": -1}}]
)
def test_positions_that_are_none(given: Any) -> None:
    with pytest.raises(ValueError, match=r'resume: expected positions by topic, such as \{"orders": '):
        read_positions("o", given)


def test_a_position_has_the_form_of_the_protocol() -> None:
    position = Event("t", 41, "k3f9", "id", None, "ts").position
    assert position == Position("k3f9", 41)
    assert json.loads(msgspec.json.encode(position)) == position.to_json() == {"epoch": "k3f9", "seq": 41}


def test_a_request_has_as_many_positions_as_the_server_takes() -> None:
    position = Position("epoch", 7)
    assert len(limit_positions((f"t{number}", position) for number in range(MAX_POSITIONS + 1))) == MAX_POSITIONS
    limited = limit_positions((f"{number:0255}", position) for number in range(MAX_POSITIONS))
    assert 0 < len(limited) < MAX_POSITIONS
    assert len(msgspec.json.encode(limited)) <= MAX_RESUME_BYTES
