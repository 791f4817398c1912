"""Outcomes of commands, and items of subscriptions, as lines."""

from __future__ import annotations

import pytest
from msgspec import Raw

from pubsub.client import (
    Event,
    Gap,
    History,
    Notice,
    Presence,
    PresentClient,
    Published,
    PubsubError,
    TopicExists,
    TopicNotFound,
    Unreachable,
)
from pubsub.client.rest import TopicRule
from pubsub.console import commands
from pubsub.console.following import Item
from pubsub.console.lines import (
    Kind,
    Line,
    describe_error,
    describe_help,
    describe_history,
    describe_ping,
    describe_presence,
    describe_published,
    describe_rules,
    describe_subscription,
    describe_topics,
    line_of,
    paint,
)
from pubsub.console.syntax import SYNTAX

ID = "550e8400-e29b-41d4-a716-446655440000"
EVENT = Event("orders", 17, "e", ID, Raw(b'{"n": 1.50}'), "2025-08-25T10:00:00Z")


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (EVENT, Line(Kind.EVENT, f'[orders] #17 {ID}: {{"n": 1.50}}')),
        (
            Gap("orders", "e", 101, 107, 7, "lost"),
            Line(Kind.INFO, "gap: 7 messages of orders (#101 to #107): no longer kept"),
        ),
        (Notice("topic_created", "orders.eu", epoch="e"), Line(Kind.INFO, "topic created: orders.eu")),
    ],
)
def test_items_as_lines(item: Item, line: Line) -> None:
    assert line_of(item) == line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TopicNotFound("Topic 'x' does not exist"), "error TOPIC_NOT_FOUND: Topic 'x' does not exist"),
        (TopicExists("topic already exists", status=409), "error 409: topic already exists"),
        (Unreachable("not connected: Connection refused"), "error: not connected: Connection refused"),
    ],
)
def test_errors_as_lines(error: PubsubError, text: str) -> None:
    assert describe_error(error) == text


@pytest.mark.parametrize(
    ("name", "topics", "text"),
    [
        ("orders", ["orders"], "ok: subscribed to orders"),
        ("orders.*", [], "ok: subscribed to orders.*: no topic yet"),
        ("orders.*", ["a", "b"], "ok: subscribed to orders.*: a, b"),
        ("orders.*", [*"abcdefg"], "ok: subscribed to orders.*: a, b, c, d, e and 2 more"),
    ],
)
def test_subscriptions_as_lines(name: str, topics: list[str], text: str) -> None:
    assert describe_subscription(name, topics) == Line(Kind.OK, text)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (describe_published(Published("orders", ID, 3)), "ok: published to orders as #3"),
        (describe_published(Published("orders", ID, 3, True)), "ok: published to orders before, as #3 (duplicate)"),
        (describe_ping(0.0015), "ok: pong after 1.5 ms"),
        (describe_presence(Presence("room.1", 0, [])), "ok: 0 clients in room.1"),
        (
            describe_presence(Presence("room.1", 3, [PresentClient("a", 1), PresentClient("b", 2)])),
            "ok: 3 clients in room.1: a, b (2 connections) and 1 more",
        ),
        *zip(
            describe_topics({"orders": 3, "b": 1}, ["x", "y"]),
            (
                "topics: orders (3 subscribers), b (1 subscriber)",
                "not counted, for they did not answer: servers x, y",
            ),
            strict=True,
        ),
        (describe_topics({}, [])[0], "topics: none"),
    ],
)
def test_answers_as_lines(line: Line, text: str) -> None:
    assert line == Line(Kind.OK, text)


def test_history_as_lines() -> None:
    lines = describe_history("orders", History("e", [EVENT], complete=False))
    assert lines == [
        Line(Kind.OK, "ok: 1 message in the history of orders; older ones are no longer kept"),
        line_of(EVENT),
    ]
    assert describe_history("orders", History("e", [], complete=True)) == [
        Line(Kind.OK, "ok: 0 messages in the history of orders")
    ]


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
