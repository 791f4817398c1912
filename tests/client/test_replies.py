"""Decoding of the server's messages by a client: the real ones, and any other text."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from pubsub.client import replies
from pubsub.client.replies import Ack, HistoryReply, Info, Reply, Unknown, decode, request_id_of
from pubsub.protocol import replies as protocol
from pubsub.protocol.replies import Error, Event, Pong, PresenceReply, PresentClient, Problem, TopicPosition, encode
from pubsub.protocol.requests import Message

TS = "2025-08-25T10:00:00Z"
EVENT = Event("t", Message("i", Raw(b"1.50")), 7, TS)
# Messages of the server, and the client's decoded replies.
PAIRS: list[tuple[protocol.Reply, Reply]] = [
    (EVENT, EVENT),
    (protocol.Ack(request_id="r", topic="t", status="ok", ts=TS), Ack("r", "t")),
    (protocol.PublishAck("r", "t", "ok", 3, TS, True), Ack("r", "t", seq=3, duplicate=True)),
    (
        protocol.SubscribeAck(topic="t", status="ok", epoch="e", seq=3, recovered=False, ts=TS),
        Ack(topic="t", epoch="e", seq=3, recovered=False),
    ),
    (
        protocol.PatternAck(
            topic="t.*", status="ok", topics={"t.a": TopicPosition("e", 3, False)}, recovered=False, ts=TS
        ),
        Ack(topic="t.*", topics={"t.a": TopicPosition("e", 3, False)}, recovered=False),
    ),
    (
        PresenceReply(request_id="r", topic="t", count=1, clients=[PresentClient("a", 2)], ts=TS),
        PresenceReply(request_id="r", topic="t", count=1, clients=[PresentClient("a", 2)], ts=TS),
    ),
    (
        protocol.Info(topic="t", msg="topic_created", epoch="e", ts=TS),
        Info(topic="t", msg="topic_created", epoch="e"),
    ),
    (protocol.Info(topic="t", msg="joined", client_id="a", ts=TS), Info(topic="t", msg="joined", client_id="a")),
    (
        Error(request_id="r", error=Problem("RATE_LIMITED", "slower", 7), ts=TS),
        Error(request_id="r", error=Problem("RATE_LIMITED", "slower", 7), ts=TS),
    ),
    (Pong(request_id="r", ts=TS), Pong(request_id="r", ts=TS)),
    (protocol.Info(msg="draining", reconnect_after_ms=1830, ts=TS), Info(msg="draining", reconnect_after_ms=1830)),
    (
        protocol.Info(topic="t", msg="dropped", count=7, from_seq=1, to_seq=7, ts=TS),
        Info(topic="t", msg="dropped", count=7, from_seq=1, to_seq=7),
    ),
    (
        protocol.HistoryReply(topic="t", epoch="e", messages=[Raw(encode(EVENT))], complete=False, ts=TS),
        HistoryReply(topic="t", epoch="e", messages=[EVENT], complete=False),
    ),
]


@pytest.mark.parametrize(("sent", "decoded"), PAIRS)
def test_every_message_of_the_server_is_known(sent: protocol.Reply, decoded: Reply) -> None:
    assert decode(encode(sent).decode()) == decoded


def test_each_kind_of_message_is_among_them() -> None:
    assert {type(sent) for sent, _ in PAIRS} == set(get_args(protocol.Reply))
    assert {type(decoded) for _, decoded in PAIRS} == set(get_args(replies.Reply)) - {Unknown}


@pytest.mark.parametrize(("sent", "decoded"), PAIRS)
def test_fields_that_a_later_server_adds_are_ignored(sent: protocol.Reply, decoded: Reply) -> None:
    message = json.loads(encode(sent)) | {"later": [1], "status": {"more": 1}}
    assert type(decode(json.dumps(message))) is type(decoded)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"news","x":[1]}',
        '{"type":"event","topic":7}',
        '{"type":"ack","seq":"x"}',
        "{}",
        "[]",
        "no JSON",
        "[" * 100_000,
        '{"type":"info","msg":"\ud800"}',
    ],
)
def test_other_text_is_kept(text: str) -> None:
    assert decode(text) == Unknown(text)


@settings(deadline=None)
@given(st.text(st.characters()) | st.builds(json.dumps, st.dictionaries(st.text(), st.text() | st.integers())))
def test_nothing_raises(text: str) -> None:
    request_id_of(decode(text))


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        ('{"type":"ack","request_id":"r"}', "r"),
        ('{"type":"ack"}', ""),
        ('{"type":"pong","request_id":"r","ts":"x"}', "r"),
        ('{"type":"pong","ts":"x"}', ""),
        ('{"type":"error","request_id":"r","error":{"code":"A","message":"b"},"ts":"x"}', "r"),
        ('{"type":"history","request_id":"r","topic":"t","messages":[]}', "r"),
        ('{"type":"info","msg":"ping","request_id":"r"}', ""),
        ("no JSON", ""),
    ],
)
def test_request_id_is_that_of_an_answer(text: str, request_id: str) -> None:
    assert request_id_of(decode(text)) == request_id
