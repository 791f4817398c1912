"""The engine of filters: errors that say where, texts that cannot break out, and hostile texts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pubsub.filters import cel
from pubsub.filters.cel import MAX_TEXT, Engine, explained
from pubsub.protocol.errors import BadRequest

ENGINE = Engine()


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as failure:
        ENGINE.compile(text)
    told = str(failure.value)
    assert len(told) <= 200
    assert told.isprintable()
    return told


def value_of(text: str, **variables: object) -> object:
    """The value of a compiled text: errors are texts."""
    return ENGINE.compile(text).evaluate(None, variables).value()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "filter: at character 1: Syntax error: mismatched input '<EOF>'"),
        ("payload.a == ", "filter: at character 14: Syntax error: mismatched input '<EOF>'"),
        ("payload.a = 1", "filter: at character 11: Syntax error: token recognition error at: '= '"),
        ("payload.a\n&&\n\n  $", "filter: at character 17: Syntax error: token recognition error at: '$'"),
        ("'é💩' == $", "filter: at character 9: Syntax error: token recognition error at: '$'"),
        ("paylod.a == 1", "filter: at character 7: undeclared reference to 'paylod.a'"),
        ("payload.a == 'x", "filter: at character 14: Syntax error: token recognition error at: ''x'"),
        ("payload.a == \x1b[31m", r"filter: at character 14: Syntax error: token recognition error at: '\x1b'"),
        ("size(payload)", "filter: expected a condition, got a value of type int"),
        ("payload.a in", "filter: at character 13: Syntax error: mismatched input '<EOF>'"),
        ("'a'", "filter: expected a condition, got a value of type string"),
        ("null", "filter: expected a condition, got a value of type null"),
        ("payload.a > 9223372036854775808", "filter: at character 13: invalid int literal"),
        ("payload.a.matches('(')", "filter: matches: not a regular expression: '('"),
        ("payload.a.matches('a{2}{3}')", "filter: matches: not a regular expression: 'a{2}{3}'"),
        ("payload.in == 1", "filter: at character 9: Syntax error: no viable alternative at input '.in'"),
        ("'\ud800' == 'a'", "filter: expected text without half of a surrogate pair"),
        ("a" * 513, "filter: expected at most 512 characters, got 513"),
        ("google.protobuf.Any{} == payload", "filter: google.protobuf.Any: message types cannot be used"),
    ],
)
def test_an_error_says_where_in_one_line(text: str, told: str) -> None:
    assert refusal(text) == told


def test_an_unknown_message_of_the_engine_is_not_shown() -> None:
    assert explained("INTERNAL: at 0xdeadbeef", "x") == "not an expression that can be read"


BREAKOUTS = [
    "true) || (true",
    "true) || (true) || (true",
    "true)\n//",
    "(true",
    "true))",
    "'a",
    '"""a',
    "/*",
    "true)//",
]


@pytest.mark.parametrize("text", BREAKOUTS)
def test_a_text_cannot_leave_its_parentheses(text: str) -> None:
    assert refusal(text).startswith("filter: at character ")


@pytest.mark.parametrize(
    "text", ["true //", "true // )", "true\n", " true ", "true\r", "false || true // false) || (false"]
)
def test_what_follows_a_text_is_not_part_of_it(text: str) -> None:
    assert value_of(text) is True


def test_a_conditional_is_one_operand() -> None:
    assert value_of("payload ? true : false", payload=False) is False


@pytest.mark.parametrize("payload", ["true", "x", 1, 1.0, None, [], [True], {}], ids=lambda payload: f"{payload!r:.10}")
def test_only_true_is_true(payload: object) -> None:
    assert value_of("payload", payload=payload) is False
    assert value_of("true ? payload : false", payload=payload) is False
    assert value_of("payload", payload=True) is True


def test_an_error_is_not_true() -> None:
    for text in ("payload.a == 1", "payload.a", "1 / 0 == 1", "from == 'a'", "9223372036854775807 + 1 > 0"):
        assert isinstance(value_of(text, payload={}), str)


def test_no_result_is_null_which_would_cost_a_reference_to_none() -> None:
    """`.value()` of a null result takes a reference to None away: after enough of them the process crashes."""
    program = ENGINE.compile("payload")
    before = sys.getrefcount(None)
    for _ in range(5000):
        program.evaluate(None, {"payload": None}).value()
    assert abs(sys.getrefcount(None) - before) < 1000


# Comparisons of numbers, and what JSON cannot tell apart.
@pytest.mark.parametrize(
    ("text", "payload", "expected"),
    [
        ("payload > 100", 150, True),
        ("payload > 100", 150.0, True),
        ("payload > 100.5", 150, True),
        ("payload > 100u", 150, True),
        ("payload == 150", 150.0, True),
        ("payload == 150.0", 150, True),
        ("payload == 150", "150", False),
        ("payload != 150", "150", True),
        ("payload in [1, 'a', 150]", 150.0, True),
        ("payload > 9223372036854775807", 2**64 - 1, True),
        ("payload == 18446744073709551615u", 2**64 - 1, True),
        ("payload == 9007199254740993", 9007199254740992.0, True),
        ("payload == payload", float("nan"), False),
        ("payload == 0.1", 0.1, True),
        ("payload == true", 1, False),
        ("payload == b'a'", "a", False),
        ("timestamp(payload) < timestamp('2024-06-01T00:00:00Z')", "2024-05-31T23:59:59Z", True),
        ("duration(payload) == duration('90s')", "1m30s", True),
        ("payload.size() == 1", "💩", True),
        ("payload.startsWith('ab') && payload.endsWith('yz') && payload.contains('m')", "abmyz", True),
        ("payload.matches('^[a-c]+$')", "abc", True),
        ("payload.a.b == 1 || has(payload.c)", {"c": None}, True),
        ("payload == {'a': [1, null]}", {"a": [1.0, None]}, True),
    ],
)
def test_values_of_json_compare(text: str, payload: object, expected: bool) -> None:
    assert value_of(text, payload=payload) is expected


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("payload > 100", "150"),
        ("payload > 100", None),
        ("payload + 1 > 100", 150.5),
        ("payload + 1 > 0", 2**63 - 1),
        ("payload.a == 1", []),
        ("payload.a == 1", None),
        ("has(payload.a.b)", {"a": 1}),
        ("payload[0] == 1", []),
        ("payload % 0 == 1", 1),
        ("payload.startsWith('a')", 1),
        ("payload.matches('a')", None),
        ("timestamp(payload) > timestamp(0)", "yesterday"),
        ("duration(payload) > duration('1s')", "1000000000000000000000h"),
        ("int(payload) > 0", "99999999999999999999"),
        ("payload && true", 1),
        ("payload ? true : true", "x"),
    ],
)
def test_another_type_is_an_error(text: str, payload: object) -> None:
    assert isinstance(value_of(text, payload=payload), str)


def repeated(term: str, joiner: str) -> str:
    """As many terms as a text may have."""
    return joiner.join([term] * ((MAX_TEXT + len(joiner)) // (len(term) + len(joiner))))


LOOPS = ["all(x, x)", "exists(x, x)", "exists_one(x, x)", "map(x, x)", "filter(x, x)", "map(x, x, x)", "all(i, x, x)"]


@pytest.mark.parametrize("call", LOOPS)
def test_there_are_no_loops(call: str) -> None:
    assert "undeclared reference" in refusal(f"[1, 2].{call} == [1]")


DEEP = [
    "(" * 250 + "true" + ")" * 250,
    "[" * 200 + "]" * 200 + " == 1",
    repeated("payload.a", "+") + "==1",
    "payload" + ".a" * 200,
    "payload" + "[0]" * 100,
    repeated("[1]", "+")[:-4] + "==[]",
    "true?true:" * 50 + "true",
]


@pytest.mark.parametrize("text", DEEP, ids=lambda text: f"{text:.12}")
def test_deep_nesting_is_refused(text: str) -> None:
    assert refusal(text) == "filter: nested too deep: expected at most 32 levels"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (repeated("true", "&&"), True),
        (repeated("false", "||"), False),
        ("!" * 400 + "true", True),
        ("-" * 400 + "1 == 1", True),
        ("[" + "1," * 200 + "1] == [1]", False),
        ("{" + ",".join(f"{n}:1" for n in range(80)) + "} == {}", False),
        ("'" + "x" * 480 + "' == topic", False),
        ("1e308 * 10.0 > 1.0", True),
        ("0.0 / 0.0 == 0.0 / 0.0", False),
        ("b'\\xff\\x00' == b'\\377\\000'", True),
        ("'a\\u0000b' == 'a'", False),
        ("'a\0b' == 'a'", False),
        ("type(payload) == map && type(type(1)) == type", True),
        ("dyn([1]) == dyn('a')", False),
    ],
    ids=lambda text: f"{text!s:.12}",
)
def test_long_and_odd_texts_have_a_value(text: str, expected: bool) -> None:
    assert value_of(text, payload={}, topic="t") is expected


# A pattern that makes other engines take exponential time, and the text for it.
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(a*)*c", "(.*a){12}c", "a?" * 20 + "a" * 20, "([ab]*)*c"])
def test_regular_expressions_are_linear(pattern: str) -> None:
    assert value_of(f"payload.matches('{pattern}')", payload="ab" * 1000) is False


@pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "a{1000}", "(((a{10}){10}){10}){10}", "." * 101, r"\\pL" * 50])
def test_a_large_regular_expression_is_refused(pattern: str) -> None:
    assert refusal(f"payload.matches('{pattern}')").startswith("filter: matches: ")


def test_a_payload_as_deep_as_a_topic_takes_is_compared() -> None:
    payload: Any = []
    for _ in range(511):
        payload = [payload]
    assert value_of(repeated("payload == payload", "&&"), payload=payload) is True


WORDS = ["payload", ".a", "[0]", "['a']", "(", ")", "{", "}", "[", "]", "==", "&&", "||", "?", ":", "!", "-", "+", "%",
         "1", "1u", "1.5", "'a'", "b'a'", "null", "true", "has(payload.a)", "size(", "matches(", ".contains('a')",
         "topic", "from", "params", "id", "in", ",", "//", "\n", "timestamp(0)", ".getHours('X')", "type(",
         "google.protobuf.Any{}", "💩", "\0"]  # fmt: skip


@given(st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@example("payload.a.b.c.d.e.f[0]['x'].y == 1")
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        program = ENGINE.compile(text)
    except BadRequest:
        assert refusal(text).startswith("filter: ")
    else:
        program.evaluate(None, {"payload": {"a": [1]}, "topic": "t", "id": "m", "params": {}}).value()


def test_a_server_without_filters_does_not_import_the_engine() -> None:
    code = (
        "import sys; from pubsub.app import create_app; from pubsub.filters.filters import Filters; Filters();"
        "sys.exit('cel_expr_python' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_server_where_the_engine_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(BadRequest) as failure:
        cel.Engine()
    assert str(failure.value) == "filter: this server cannot filter (install pubsub[filters])"
