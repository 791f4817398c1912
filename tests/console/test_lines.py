"""Messages and answers as lines."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.client.replies import Ack, Reply, decode
from pubsub.client.rest import TopicRule
from pubsub.console import commands
from pubsub.console.commands import Command
from pubsub.console.lines import (
    Kind,
    Line,
    describe,
    describe_answer,
    describe_help,
    describe_rules,
    describe_topics,
    paint,
)
from pubsub.console.syntax import SYNTAX

ID = "550e8400-e29b-41d4-a716-446655440000"


def described(frame: str) -> list[str]:
    return [line.text for line in describe(decode(frame))]


EVENT = f'{{"type":"event","topic":"orders","message":{{"id":"{ID}","payload":{{"n": 1.50}}}},"seq":17,"ts":"x"}}'


@pytest.mark.parametrize(
    ("frame", "lines"),
    [
        (EVENT, [f'[orders] #17 {ID}: {{"n":1.50}}']),
        (
            '{"type":"error","error":{"code":"TOPIC_NOT_FOUND","message":"Topic \'x\' does not exist"},"ts":"x"}',
            ["error TOPIC_NOT_FOUND: Topic 'x' does not exist"],
        ),
        (
            '{"type":"info","topic":"orders","msg":"dropped","count":7,"from_seq":101,"to_seq":107}',
            ["dropped: 7 messages of orders (#101 to #107)"],
        ),
        (EVENT.replace('"ts"', '"from":"alice","ts"'), [f'[orders] #17 {ID} from alice: {{"n":1.50}}']),
        ('{"type":"info","topic":"orders.eu","msg":"topic_created","epoch":"e"}', ["topic created: orders.eu"]),
        (
            '{"type":"info","topic":"orders.*","msg":"unsubscribed","reason":"forbidden"}',
            ["unsubscribed from orders.*: forbidden"],
        ),
        ('{"type":"info","topic":"room.1","msg":"joined","client_id":"alice"}', ["joined room.1: alice"]),
        ('{"type":"info","topic":"room.1","msg":"left","client_id":"alice"}', ["left room.1: alice"]),
        (
            '{"type":"presence","topic":"room.1","count":3,"ts":"x","clients":[{"client_id":"a","connections":1},'
            '{"client_id":"b","connections":2}]}',
            ["ok: 3 clients in room.1: a, b (2 connections) and 1 more"],
        ),
        ('{"type":"presence","topic":"room.1","count":0,"clients":[],"ts":"x"}', ["ok: 0 clients in room.1"]),
        ('{"type":"info","msg":"ping"}', []),
        ('{"type":"info","topic":"orders","msg":"topic_deleted"}', ["topic deleted: orders"]),
        (
            '{"type":"info","msg":"draining","reconnect_after_ms":1830}',
            ["draining: the server shuts down; reconnect after 1.8 s"],
        ),
        ('{"type":"info","msg":"novelty","topic":"orders"}', ["info: novelty orders"]),
        (
            f'{{"type":"history","topic":"orders","epoch":"e","messages":[{EVENT}],"complete":false}}',
            [
                "ok: 1 message in the history of orders; older ones are no longer kept",
                f'[orders] #17 {ID}: {{"n":1.50}}',
            ],
        ),
        ('{"type":"news","x":[1]}', ['unknown frame: {"type":"news","x":[1]}']),
        ('{"type":"event","topic":7}', ['unknown frame: {"type":"event","topic":7}']),
        ("no JSON", ["unknown frame: no JSON"]),
        ("[" * 100_000, ["unknown frame: " + "[" * 100_000]),
        ('{"type":"pong","ts":"x"}', ["ok: pong"]),
        ('{"type":"ack","topic":"orders"}', ["ok: orders"]),
    ],
)
def test_frames_as_lines(frame: str, lines: list[str]) -> None:
    assert described(frame) == lines


@settings(deadline=None)
@given(st.text())
def test_any_frame_has_lines(frame: str) -> None:
    assert all(isinstance(line, Line) for line in describe(decode(frame)))


def pattern_ack(*topics: str) -> Reply:
    positions = {topic: {"epoch": "e", "seq": 1} for topic in topics}
    return decode(msgspec.json.encode({"type": "ack", "topic": "orders.*", "topics": positions}).decode())


@pytest.mark.parametrize(
    ("command", "reply", "text"),
    [
        (commands.Subscribe("orders", 0), Ack(topic="orders"), "ok: subscribed to orders"),
        (commands.Subscribe("orders.*"), Ack(topic="orders.*"), "ok: subscribed to orders.*: no topic yet"),
        (commands.Subscribe("orders.*"), pattern_ack("b", "a"), "ok: subscribed to orders.*: a, b"),
        (
            commands.Subscribe("orders.*"),
            pattern_ack(*"gfedcba"),
            "ok: subscribed to orders.*: a, b, c, d, e and 2 more",
        ),
        (commands.Unsubscribe("orders"), Ack(topic="orders"), "ok: unsubscribed from orders"),
        (commands.Publish("orders", "1"), Ack(topic="orders", seq=3), "ok: published to orders as #3"),
        (commands.Publish("orders", "1"), Ack(topic="orders"), "ok: published to orders"),
        (commands.Ping(), decode('{"type":"pong","ts":"x"}'), "ok: pong after 1.5 ms"),
    ],
)
def test_answers_as_lines(command: Command, reply: Reply, text: str) -> None:
    assert describe_answer(command, reply, seconds=0.0015) == [Line(Kind.OK, text)]


def test_topics_as_a_line() -> None:
    assert describe_topics({"orders": 3, "b": 1}).text == "topics: orders (3 subscribers), b (1 subscriber)"
    assert describe_topics({}).text == "topics: none"


def test_a_painted_line_has_the_colour_of_its_kind_and_no_other() -> None:
    assert paint(Line(Kind.ERROR, "\x1b[0m")) == "\x1b[31m\\u001b[0m\x1b[0m"


def test_rules_as_lines() -> None:
    rules = [
        TopicRule(pattern="room.*", create=True, delete_idle_sec=3600, options={"history": 5, "overflow": "latest"}),
        TopicRule(pattern=">"),
    ]
    assert [line.text for line in describe_rules(rules)] == [
        'rule room.*: created at first use, deleted when idle for 3600 s, history=5, overflow="latest"',
        "rule >: no effect",
    ]
    assert [line.text for line in describe_rules([])] == ["rules: none"]


def test_help_as_lines() -> None:
    lines = [line.text for line in describe_help(commands.Help(("ping", "history", "unsub")))]
    assert lines == [
        f"ping         {SYNTAX['ping'].meaning}",
        "history TOPIC [last=N] [after=SEQ] [limit=N] [filter=CEL] [params=JSON]",
        f"             {SYNTAX['history'].meaning}",
        f"unsub TOPIC  {SYNTAX['unsub'].meaning}",
    ]


def test_help_fits_into_a_terminal() -> None:
    assert all(len(line.text) <= 120 for line in describe_help(commands.Help(tuple(SYNTAX))))
