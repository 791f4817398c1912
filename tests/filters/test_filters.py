"""Filters: conditions in CEL on events, and joins of them."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pubsub.filters.filters import KEPT_PROGRAMS, MAX_PARAMS, Filter, Filters, Subject
from pubsub.protocol.errors import BadRequest

FILTERS = Filters()


def make(text: str, params: object = None) -> Filter:
    return FILTERS.compile(text, None if params is None else Raw(json.dumps(params).encode()))


def event(payload: object, **more: object) -> bytes:
    """An event with this payload, as a journal makes it; a payload of bytes is JSON."""
    raw = Raw(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    message = {"id": "m1", "payload": raw}
    made = {"type": "event", "topic": "orders.eu", "message": message, "seq": 1, "ts": "2024-01-01T00:00:00Z"}
    return msgspec.json.encode(made | more)


def subject(payload: object, **more: object) -> Subject:
    return Subject(event(payload, **more))


@pytest.mark.parametrize(
    ("text", "payload", "params", "expected"),
    [
        ("payload.amount > 100 && payload.currency == params.currency",
         {"amount": 150, "currency": "USD"}, {"currency": "USD"}, True),
        ("payload.amount > 100 && payload.currency == params.currency",
         {"amount": 150, "currency": "USD"}, {"currency": "EUR"}, False),
        ("id == 'm1' && topic == 'orders.eu'", None, None, True),
        ("has(payload.a) || payload.b == 1", {"b": 1}, None, True),
        ("payload.a.b['c'].d == 1", {"a": {"b": {"c": {"d": 1}}}}, None, True),
        ("payload[params.field] in params.wanted", {"a": 7}, {"field": "a", "wanted": [6, 7]}, True),
        ("payload == params.x", {"a": [1, None]}, {"x": {"a": [1, None]}}, True),
        ("payload.größe == 1", {"größe": 1}, None, None),
        ("payload['größe'] == 1", {"größe": 1, "": 2}, None, True),
        ("payload.a + 'x' == 'ax'", {"a": "a"}, None, True),
    ],
)  # fmt: skip
def test_a_filter_is_a_condition(text: str, payload: Any, params: Any, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(BadRequest, match=r"^filter: at character 11: "):
            make(text, params)
    else:
        assert make(text, params).matches(subject(payload)) is expected


def test_the_sender_is_a_variable_where_the_topic_has_it() -> None:
    wanted = make("from == 'alice'")
    assert wanted.matches(subject(1, **{"from": "alice"}))
    assert not wanted.matches(subject(1, **{"from": "bob"}))
    assert not wanted.matches(subject(1))
    assert not make("from != 'alice'").matches(subject(1))


def test_values_of_params_are_values_and_not_text() -> None:
    wanted = make("payload.name == params.name", {"name": "' || true || '"})
    assert not wanted.matches(subject({"name": "x"}))
    assert wanted.matches(subject({"name": "' || true || '"}))


@pytest.mark.parametrize(
    "payload",
    [{}, None, [], "x", {"a": "1"}, {"a": None}, b'{"a":1e999}', b'{"a":"\\ud800"}',
     b'{"a":2,"b":99999999999999999999}', b'{"a":"\\u0000"}',
     {"a": 2, "b": "x" * 40_000}, {"a": 2, "b": list(range(5000))}],
    ids=lambda payload: f"{payload!s:.20}",
)  # fmt: skip
def test_an_error_does_not_match_and_is_counted(payload: object) -> None:
    """A field that is missing or of another type, and a payload that cannot be read or is too large."""
    filters = Filters()
    wanted = filters.compile("payload.a > 1 && payload.b != 0", None)
    refused = filters.compile("payload.a <= 1 || payload.b == 0", None)
    assert not wanted.matches(subject(payload))
    assert not refused.matches(subject(payload))
    assert filters.failures == 2


def test_false_is_no_failure_and_one_true_side_is_enough() -> None:
    filters = Filters()
    assert not filters.compile("payload.a > 1").matches(subject({"a": 1}))
    assert filters.compile("payload.missing == 1 || payload.a == 1").matches(subject({"a": 1}))
    assert not filters.compile("payload.missing == 1 && payload.a == 2").matches(subject({"a": 1}))
    assert filters.failures == 0


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 5000, b"\xff", b'{"topic":1,"message":{}}'])
def test_an_event_that_cannot_be_read_does_not_match(text: bytes) -> None:
    for wanted in (make("topic == 'a'"), make("payload.a == 1"), make("payload.a == params.a", {})):
        broken = Subject(text)
        assert not wanted.matches(broken)
        assert not wanted.matches(broken)


def test_a_filter_that_reads_nothing_needs_no_event() -> None:
    assert make("1 < 2").matches(subject({"a": 99999999999999999999}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_no_payload_raises_and_a_large_event_gives_the_same(payload: object) -> None:
    """A small event is decoded at once and a large one field by field."""
    large = {"a": payload, "filler": "x" * 3000}
    for text in ("payload.a.b == 1", "payload.a", "payload.a == params.a", "has(payload.a.b.c) || payload.a.c > 1"):
        wanted = make(text, {"a": 1})
        assert wanted.matches(subject({"a": payload})) is wanted.matches(subject(large))


def test_the_same_text_and_params_are_the_same_filter() -> None:
    one = make("payload.a == params.x", {"x": 1, "y": [2]})
    assert one is FILTERS.compile("payload.a == params.x", Raw(b' {"y": [ 2 ], "x":1} '))
    assert make("true") is make("true", {})
    others = [make("payload.a == params.x", {"x": 2}), make("payload.a == params.x"), make("payload.a==params.x")]
    assert len({one, *others}) == 4
    assert (one.text, one.params) == ("payload.a == params.x", b'{"x":1,"y":[2]}')


def test_filters_that_are_gone_leave_nothing() -> None:
    filters = Filters()
    kept = filters.compile("payload.kept == 1")
    for number in range(2 * KEPT_PROGRAMS):
        filters.compile(f"payload.a == {number}")
        filters.compile("payload.a == params.n", Raw(b'{"n":%d}' % number))
    gc.collect()
    assert set(filters._made) == {("payload.kept == 1", b"{}")}
    assert len(filters._programs) <= KEPT_PROGRAMS + 1
    assert filters.compile("payload.kept == 1") is kept


def test_a_text_in_use_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    filters = Filters()
    first = filters.compile("payload.a == params.n", Raw(b'{"n":1}'))
    for number in range(KEPT_PROGRAMS + 1):
        filters.compile(f"payload.a == {number}")
    monkeypatch.setattr("pubsub.filters.cel.Engine.compile", None)
    again = filters.compile("payload.a == params.n", Raw(b'{"n":2}'))
    assert first.matches(subject({"a": 1}))
    assert again.matches(subject({"a": 2}))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (b"[]", "params: expected an object of at most 4096 bytes, got []"),
        (b"1", "params: expected an object of at most 4096 bytes, got 1"),
        (b"null", "params: expected an object of at most 4096 bytes, got null"),
        (b'{"a":"%b"}' % (b"x" * 4089), "params: expected an object of at most 4096 bytes, got 4097 bytes"),
        (b'{"a":1e999}', "params: expected an object of at most 4096 bytes, got something that cannot be read"),
        (
            b'{"a":%b' % (b"[" * 4000),
            "params: expected an object of at most 4096 bytes, got something that cannot be read",
        ),
        (b'{"a":"\\u0000"}', "params: expected strings without NUL"),
        (b'{"a":[{"b":18446744073709551616}]}', "params: expected integers of at most 64 bits"),
        (b'{"a":-9223372036854775809}', "params: expected integers of at most 64 bits"),
    ],
    ids=lambda value: f"{value!s:.20}",
)
def test_params_that_are_refused(params: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as failure:
        FILTERS.compile("true", Raw(params))
    assert str(failure.value) == told


def test_params_of_the_largest_size() -> None:
    text = "x" * (MAX_PARAMS - 8)
    params = b'{"a":"%b"}' % text.encode()
    largest = FILTERS.compile("payload.a == params.a", Raw(params))
    assert largest.params == params
    assert largest.matches(subject({"a": text}))
    assert make("payload.a == params.a", {"a": 2**64 - 1}).matches(subject({"a": 2**64 - 1}))
    nested = b'{"a":%b1%b}' % (b"[" * 600, b"]" * 600)
    assert FILTERS.compile("params.a == params.a", Raw(nested)).matches(subject(1))


def test_the_text_is_checked_before_the_params() -> None:
    with pytest.raises(BadRequest, match=r"^filter: "):
        FILTERS.compile("payload.", Raw(b"[]"))


def test_a_join_wants_all_that_is_required_and_any_that_is_wanted() -> None:
    a, b, c, d = (make(f"payload.{name} == 1") for name in "abcd")
    joined = FILTERS.join([a, b], [c, d])
    assert joined is not None
    for fields, expected in (
        ("abc", True),
        ("abd", True),
        ("abcd", True),
        ("ab", False),
        ("acd", False),
        ("cd", False),
    ):
        assert joined.matches(subject(dict.fromkeys(fields, 1))) is expected
    wanted = FILTERS.join([], [c, d])
    required = FILTERS.join([a, b], None)
    assert wanted is not None
    assert required is not None
    assert (wanted.matches(subject({"d": 1})), wanted.matches(subject({"a": 1, "b": 1}))) == (True, False)
    assert (required.matches(subject({"a": 1, "b": 1})), required.matches(subject({"a": 1}))) == (True, False)


def test_a_join_of_the_same_sets_is_one_object() -> None:
    a, b, c = (make(f"payload.{name} == 1") for name in "abc")
    joined = FILTERS.join([a], [b, c])
    assert joined is FILTERS.join((a, a), (c, b, c))
    assert joined is not FILTERS.join([a, b], [c])
    assert joined is not FILTERS.join([a, b, c], None)
    assert FILTERS.join([], [b, c]) is not FILTERS.join([b, c], None)


def test_a_join_of_one_filter_is_the_filter() -> None:
    a, b = make("payload.a == 1"), make("payload.b == 1")
    assert FILTERS.join([], None) is None
    assert FILTERS.join([a], None) is a
    assert FILTERS.join([], [a]) is a
    assert FILTERS.join([a], [a]) is a
    # What is required is wanted too: there is nothing left to choose.
    assert FILTERS.join([a], [b, a]) is a


def test_joins_that_are_gone_leave_nothing() -> None:
    filters = Filters()
    a, b = filters.compile("payload.a == 1"), filters.compile("payload.b == 1")
    joined = filters.join([a], [b])
    assert len(filters._joined) == 1
    del joined
    gc.collect()
    assert len(filters._joined) == 0


def test_joins_share_the_result_of_a_filter() -> None:
    filters = Filters()
    token = filters.compile("payload.missing == 1")
    joins = [filters.join([token], [filters.compile(f"payload.a == {number}")]) for number in range(5)]
    one = subject({"a": 1})
    assert not any(joined.matches(one) for joined in joins if joined)
    assert filters.failures == 1


def test_filters_of_the_same_fields_share_the_decoded_payload() -> None:
    one = subject({"a": 1, "b": 2, "c": 3})
    wanted = [make(text) for text in ("payload.a == 1", "payload.a != 2", "payload.a in [1]")]
    wanted += [make("payload.a == params.a", {"a": number}) for number in (1, 1.0)]
    assert all(each.matches(one) for each in wanted)
    assert list(one._seen.values()) == [{"payload": {"a": 1}}]


def test_texts_that_are_made_by_an_evaluation_are_not_kept() -> None:
    """An Activation keeps the texts of + as long as it lives: such a filter gets one of its own each time."""
    one = subject({"a": "x" * 500})
    wanted = make("payload.a + payload.a + payload.a == ''")
    for _ in range(3):
        assert not wanted.matches(one)
    assert one._activations == {}


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("payload.a != 'b'", 30_000, True),
        ("payload.a.contains('b')", 30_000, False),
        ("payload.a.contains('b') || payload.a.contains(payload.b)", 3000, False),
        ("payload.a.contains('x') && payload.a.contains(payload.b)", 1500, True),
        ("payload.a.matches('x')", 3000, False),
        ("payload.a.matches('x')", 1500, True),
        ("payload.a + payload.a + payload.a != ''", 11_000, False),
        ("payload.a + payload.a + payload.a != ''", 7000, True),
    ],
)
def test_an_expensive_call_reads_less(text: str, length: int, expected: bool) -> None:
    assert make(text).matches(subject({"a": "x" * length, "b": "x"})) is expected


def test_a_null_result_costs_no_reference_to_none() -> None:
    wanted, null = make("payload.a"), event({"a": None})
    before = sys.getrefcount(None)
    for _ in range(5000):
        assert not wanted.matches(Subject(null))
    assert abs(sys.getrefcount(None) - before) < 1000


def test_a_server_without_the_engine_refuses_every_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    with pytest.raises(BadRequest) as failure:
        Filters().compile("true")
    assert str(failure.value) == "filter: this server cannot filter (install pubsub[filters])"
