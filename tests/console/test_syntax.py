"""The reading of typed lines."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.console import commands
from pubsub.console.commands import Command
from pubsub.console.syntax import SYNTAX, parse
from pubsub.console.words import CommandError


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("sub orders", commands.Subscribe("orders", 0)),
        ("  sub\torders  5 \n", commands.Subscribe("orders", 5)),
        ("sub 'orders.*' last=5", commands.Subscribe("orders.*", 5)),
        ("sub orders.> last=5", commands.Subscribe("orders.>", 5)),
        (
            """sub orders 5 filter='payload.name == "a b"' params='{"least": 1.50}'""",
            commands.Subscribe("orders", 5, 'payload.name == "a b"', {"least": 1.5}),
        ),
        (
            """sub params={\\"least\\":1} orders filter="payload.n > params.least" """,
            commands.Subscribe("orders", 0, "payload.n > params.least", {"least": 1}),
        ),
        ("unsub 'orders.*'", commands.Unsubscribe("orders.*")),
        ("pub orders ttl=0.5 expect=17 hello", commands.Publish("orders", '"hello"', 0.5, 17)),
        ('pub orders expect=0 {"ttl": "ttl=5"}', commands.Publish("orders", '{"ttl": "ttl=5"}', None, 0)),
        ('pub orders "ttl=5"', commands.Publish("orders", '"ttl=5"')),
        ("pub orders hello ttl=5", commands.Publish("orders", '"hello ttl=5"')),
        ("presence room.1", commands.ListClients("room.1")),
        ("purge orders", commands.PurgeTopic("orders")),
        ("redrive orders.dead", commands.RedriveLetters("orders.dead")),
        ("redrive orders.dead after=5 limit=7", commands.RedriveLetters("orders.dead", 5, 7)),
        ("rules", commands.ListRules()),
        ("why alice orders 17", commands.TraceMessage("alice", "orders", 17)),
        ("why 'a b' orders 0", commands.TraceMessage("a b", "orders", 0)),
        ("unsub orders", commands.Unsubscribe("orders")),
        ("ping", commands.Ping()),
        ("topics", commands.ListTopics()),
        ("create orders.eu", commands.CreateTopic("orders.eu")),
        (
            "create t durable history=5 ttl_sec=0.5 overflow=latest",
            commands.CreateTopic("t", (("durable", True), ("history", 5), ("ttl_sec", 0.5), ("overflow", "latest"))),
        ),
        ("delete orders", commands.DeleteTopic("orders")),
        ("history orders", commands.ReadHistory("orders")),
        ("history orders 3", commands.ReadHistory("orders", 3)),
        (
            "history orders after=7 limit=2 filter='payload > 1'",
            commands.ReadHistory("orders", None, 7, 2, "payload > 1"),
        ),
        ("create t sender presence", commands.CreateTopic("t", (("sender", True), ("presence", True)))),
        ("help pub sub", commands.Help(("pub", "sub"))),
        ("help", commands.Help(tuple(SYNTAX))),
        ("help pub", commands.Help(("pub",))),
        ("quit", commands.Quit()),
        ("exit", commands.Quit()),
        ("", commands.Nothing()),
        (" \t ", commands.Nothing()),
    ],
)
def test_commands(line: str, command: Command) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("hello", '"hello"'),
        ("hello  big   world ", '"hello  big   world"'),
        ('{"test":"data"}', '{"test":"data"}'),
        ('{"b": 1.50, "a": 1e400, "a": 2}', '{"b": 1.50, "a": 1e400, "a": 2}'),
        ("[1, 2]", "[1, 2]"),
        ('"quoted"', '"quoted"'),
        ('"quoted" and more', json.dumps('"quoted" and more')),
        ("-12.5e3", "-12.5e3"),
        ("9" * 5000, "9" * 5000),
        ("true", "true"),
        ("null", "null"),
        ("nul", '"nul"'),
        ("'{\"a\":1}'", '{"a":1}'),
        ("'two words'", '"two words"'),
        ("'tis and 'twas", json.dumps("'tis and 'twas")),
        ("'tis' the 'season'", json.dumps("'tis' the 'season'")),
        ("'tis", json.dumps("'tis")),
        ("NaN", '"NaN"'),
        ("01", '"01"'),
        ("grüße", json.dumps("grüße")),
        ("\x1b[31m", '"\\u001b[31m"'),
    ],
)
def test_payload_is_json_or_a_string(text: str, payload: str) -> None:
    assert parse(f"pub orders {text}") == commands.Publish("orders", payload)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("subb orders", "unknown command 'subb'; did you mean 'sub'?"),
        ("SUBSCRIBE orders", "unknown command 'SUBSCRIBE'; did you mean 'sub'?"),
        ("publish orders x", "unknown command 'publish'; did you mean 'pub'?"),
        ("xyzzy", "unknown command 'xyzzy'; 'help' lists the commands"),
        ("help subb", "unknown command 'subb'; did you mean 'sub'?"),
        ("sub", "TOPIC is missing; usage: sub TOPIC [last=N] [filter=CEL] [params=JSON]"),
        ("pub orders", "TEXT is missing; usage: pub TOPIC [ttl=SECONDS] [expect=SEQ] TEXT"),
        ("pub orders ttl=5", "TEXT is missing"),
        ("pub orders ttl=inf x", "ttl: expected seconds as in 5 or 0.5, got 'inf'"),
        ("pub orders ttl=1 ttl=2 x", "ttl: expected once, got '2' too"),
        ("pub orders expect=-1 x", "expect: expected a whole number from 0 to 9999999999999999, got '-1'"),
        ("pub 'orders x", "a quotation mark is not closed"),
        ("sub orders five", "sub: 'five' is too much; usage: sub TOPIC [last=N]"),
        ("sub orders last=five", "last: expected a whole number from 0 to 9999999999999999, got 'five'"),
        ("sub orders last=-1", "last: expected a whole number from 0 to 9999999999999999, got '-1'"),
        ("sub orders last=", "last: expected a whole number from 0 to 9999999999999999, got ''"),
        ("sub orders 5 last=6", "last: expected once, got '5' too"),
        ("sub orders fliter='a'", "sub has no option 'fliter'; did you mean 'filter'?"),
        ("sub orders x=1", "sub has no option 'x'; usage: sub TOPIC [last=N] [filter=CEL] [params=JSON]"),
        ("unsub orders last=1", "unsub has no option 'last'; usage: unsub TOPIC"),
        ("sub orders filter=", "filter: expected a value after 'filter='"),
        (
            "sub orders filter=payload.a == 'b'",
            "sub: '==' is too much; a value with blanks needs quotes, as in filter=",
        ),
        ("sub orders filter='payload.a", "a quotation mark is not closed"),
        ("sub orders\\", "nothing follows the backslash at the end"),
        (
            'sub orders params={"least":1}',
            """params: expected a JSON object in quotes as in params='{"least":100}': Expecting property name""",
        ),
        ("sub orders params=7", "it begins with no {"),
        ("history orders 1 2", "last: expected once, got '2' too"),
        ("why alice orders", "SEQ is missing; usage: why CLIENT TOPIC SEQ"),
        ("why alice orders x", "SEQ: expected a whole number from 0 to 9999999999999999, got 'x'"),
        ("why alice orders 1 2", "why: '2' is too much; usage: why CLIENT TOPIC SEQ"),
        ("ping me now", "ping: 'me' is too much; usage: ping"),
        ('pub orders {"a" 1}', "Expecting ':' delimiter at character 6 ('1}')"),
        ("pub orders [1,", "Expecting value at character 4 ('')"),
        ("pub orders [NaN]", "NaN is no JSON value"),
        ("pub orders " + "[" * 100_000, "nested too deeply"),
        ("sub orders params='" + '{"a":' * 100_000 + "'", "nested too deeply"),
        ("pub orders \udc80", "expected UTF-8, but character 12 of the line is not"),
    ],
)
def test_bad_commands_explain_themselves(line: str, told: str) -> None:
    with pytest.raises(CommandError) as failure:
        parse(line)
    assert told in str(failure.value)


@settings(deadline=None)
@given(st.text())
def test_any_line_is_a_command_or_an_explanation(line: str) -> None:
    with contextlib.suppress(CommandError):
        parse(line)


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some))
)
def test_any_json_is_published_as_it_is_typed(payload: Any) -> None:
    text = json.dumps(payload)
    assert parse(f"pub orders {text}") == commands.Publish("orders", text)


@pytest.mark.parametrize("name", SYNTAX)
def test_each_command_needs_its_words(name: str) -> None:
    if SYNTAX[name].words:
        with pytest.raises(CommandError, match=f"{SYNTAX[name].words[0]} is missing; usage: {name} "):
            parse(name)
