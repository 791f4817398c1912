"""Decoding of requests, and the errors of refused ones, without a socket."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import request_id_of
from pubsub.protocol.replies import Event, encode
from pubsub.protocol.requests import (
    History,
    Message,
    Ping,
    Publish,
    Subscribe,
    Unsubscribe,
    decode_request,
)

ID = "550e8400-e29b-41d4-a716-446655440000"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


def publish_text(payload: str, message_id: str = ID) -> str:
    return f'{{"type":"publish","topic":"t","message":{{"id":"{message_id}","payload":{payload}}},"request_id":"r"}}'


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as caught:
        decode_request(text)
    return str(caught.value)


def test_decodes_each_request() -> None:
    assert decode_request('{"type":"subscribe","topic":"t","client_id":"c"}') == Subscribe(topic="t", client_id="c")
    assert decode_request('{"type":"subscribe","topic":"t","client_id":"c","last_n":5,"request_id":"r"}') == Subscribe(
        topic="t", client_id="c", last_n=5, request_id="r"
    )
    assert decode_request('{"type":"unsubscribe","topic":"t","client_id":"c"}') == Unsubscribe(topic="t", client_id="c")
    assert decode_request('{"type":"ping","unknown":[1]}') == Ping()
    assert decode_request('{"type":"history","topic":"t","after":0}') == History(topic="t", after=0)
    published = decode_request(publish_text("null"))
    assert isinstance(published, Publish)
    assert published.message.id == ID


@pytest.mark.parametrize(
    ("text", "named", "told"),
    [
        ("", "not JSON", ""),
        ("{", "not JSON", ""),
        ("[]", "the message", "got []"),
        ("5", "the message", "got 5"),
        ("null", "the message", "got null"),
        ("{}", "type", "required"),
        ('{"type":5}', "type", "got 5"),
        (
            '{"type":"ack"}',
            "type",
            "expected one of subscribe, unsubscribe, publish, ping, history, auth, presence, got 'ack'",
        ),
        ('{"type":"subscribe","client_id":"c"}', "topic", "required"),
        ('{"type":"subscribe","topic":"t"}', "client_id", "required"),
        ('{"type":"subscribe","topic":5,"client_id":"c"}', "topic", "got 5"),
        ('{"type":"subscribe","topic":"t","client_id":null}', "client_id", "got null"),
        ('{"type":"subscribe","topic":"t","client_id":""}', "client_id", "length >= 1"),
        ('{"type":"subscribe","topic":"t","client_id":"c","last_n":-1}', "last_n", "a whole number >= 0, got -1"),
        ('{"type":"subscribe","topic":"t","client_id":"c","last_n":1.5}', "last_n", "got 1.5"),
        ('{"type":"subscribe","topic":"t","client_id":"c","last_n":true}', "last_n", "got true"),
        ('{"type":"subscribe","topic":"t","client_id":"c","last_n":"1"}', "last_n", "got '1'"),
        ('{"type":"subscribe","topic":"t","client_id":"c","last_n":1e99}', "last_n", ""),
        ('{"type":"unsubscribe","topic":"t"}', "client_id", "required"),
        ('{"type":"publish","topic":"t"}', "message", "required"),
        ('{"type":"publish","topic":"t","message":[]}', "message", "got []"),
        ('{"type":"publish","topic":"t","message":{"payload":1}}', "message.id", "required"),
        (f'{{"type":"publish","topic":"t","message":{{"id":"{ID}"}}}}', "message.payload", "required"),
        ('{"type":"publish","topic":"t","message":{"id":5,"payload":1}}', "message.id", "got 5"),
        (f'{{"type":"publish","message":{{"id":"{ID}","payload":1}}}}', "topic", "required"),
        ('{"type":"ping","request_id":5}', "request_id", "got 5"),
        ('{"type":"ping","request_id":null}', "request_id", "got null"),
        (f'{{"type":"ping","request_id":"{"x" * 129}"}}', "request_id", "length <= 128"),
        ('{"type":"history","topic":"t"}', "after or last_n", ""),
        ('{"type":"history","topic":"t","after":1,"last_n":1}', "after or last_n", ""),
        ('{"type":"history","topic":"t","after":1,"limit":0}', "limit", ">= 1, got 0"),
        ('{"type":"history","topic":"t","after":1,"limit":1001}', "limit", "<= 1000, got 1001"),
    ],
)
def test_refuses_and_names_the_field(text: str, named: str, told: str) -> None:
    message = refusal(text)
    assert message.startswith(named)
    assert told in message


@pytest.mark.parametrize("message_id", [ID, ID.upper(), "00000000-0000-0000-0000-000000000000"])
def test_takes_a_uuid_in_either_case(message_id: str) -> None:
    decode_request(publish_text("1", message_id))


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "x",
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        ID.replace("-", ""),
        ID + "0",
        ID + "\\n",
        ID[:-1] + "g",
        ID.replace("5", "\u0665"),
    ],
)
def test_refuses_what_only_looks_like_a_uuid(message_id: str) -> None:
    assert refusal(publish_text("1", message_id)).startswith("message.id: expected a UUID")


@given(json_values)
def test_passes_the_payload_on_byte_for_byte(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        try:
            text.encode()
        except UnicodeEncodeError:
            continue  # a UTF-8 decoder cannot return a lone surrogate
        try:
            request = decode_request(publish_text(text))
        except BadRequest:
            assert "\\ud" in text  # a lone surrogate, escaped: many clients can't parse it
            continue
        assert isinstance(request, Publish)
        event = encode(Event("t", request.message, 1, ""))
        assert b'"payload":' + text.encode() + b"}" in event
        assert json.loads(event)["message"]["payload"] == value


@pytest.mark.parametrize(
    "payload",
    ["01", "1.", ".5", "+1", "-", "1e", "NaN", "Infinity", "tru", "'x'", '"\\x"', '"\\u12"', '"\t"', "[1,]", '{"a":1,}',
     "{1:2}", '{"a"}', "[1 2]", "1 2", "\ufeff1", '"\\ud800"', '"\\udc00"', '"\\ud800x"', '"\\ud800\\ud800"',
     '{"\\udfff":1}',
     "[" * 513 + "]" * 513, '{"a":[' * 256 + "[]" + "]}" * 256, '["\\\\","\\"]",' + "[" * 512 + "]" * 513,
     "[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000, "9" * 5_000, "[-1" + "0" * 5_000 + "]"],
)  # fmt: skip
def test_refuses_what_another_client_could_not_parse(payload: str) -> None:
    refusal(publish_text(payload))


@pytest.mark.parametrize(
    "payload",
    [
        "[" * 512 + "]" * 512,
        '"' + "[" * 9_000 + '"',
        '["\\"[[",' + "[]," * 9_000 + "0]",
        "1e999",
        "-0",
        "1.0E+5",
        '{"a":1,"a":2}',
        '"\\ud83d\\ude00"',
        '"' + "9" * 5_000 + '"',
    ],
)
def test_takes_any_spelling_that_is_json(payload: str) -> None:
    decode_request(publish_text(payload))


nested = st.recursive(
    st.sampled_from(["1", '"x"', '"["', '"]}"', '"\\\\"', '"\\"["', '""', "[]", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda values: f"[{','.join(values)}]")
        | st.lists(st.tuples(st.sampled_from(['"a":', '"[":', '"}\\"":']), inner).map("".join), max_size=3).map(
            lambda members: f"{{{','.join(members)}}}"
        )
    ),
    max_leaves=30,
)  # fmt: skip


@given(nested, st.sampled_from([1, 2, 300]), st.integers(500, 512))
def test_payloads_are_as_deep_as_a_look_at_each_character_says(inner: str, width: int, around: int) -> None:
    payload = "[" * around + ",".join([inner] * width) + "]" * around
    if depth_of(payload) > 512:
        assert "512 levels" in refusal(publish_text(payload))
    else:
        assert isinstance(decode_request(publish_text(payload)), Publish)


def depth_of(text: str) -> int:
    depth = deepest = 0
    within = escaped = False
    for character in text:
        if within:
            within = escaped or character != '"'
            escaped = character == "\\" and not escaped
        else:
            within = character == '"'
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    return deepest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":"zzz","request_id":"r"}', "r"),
        ('{"request_id":"r","type":"publish","topic":{},"message":5}', "r"),
        ('{"request_id":"' + "x" * 200 + '"}', "x" * 200),
        ('{"request_id":"\\u00fc\\n"}', "ü\n"),
        ('{"request_id":5}', UNSET),
        ('["request_id","r"]', UNSET),
        ("{", UNSET),
        ('{"a":' + "[" * 5000 + "]" * 5000 + ',"request_id":"r"}', "r"),
        ('{"request_id":"r","a":' + "[" * 5000 + "]" * 5000 + "}", "r"),
        ('{"a":{"request_id":"inner"},"b":' + "[" * 5000 + "]" * 5000 + "}", UNSET),
        ('{"request_id":7,"b":' + "[" * 5000 + "]" * 5000 + "}", UNSET),
        ('{"b":"request_id","c":"}{","d":' + "[" * 5000 + "]" * 5000 + ',"request_id":"r"}', "r"),
    ],
)
def test_finds_the_request_id_of_a_bad_request(text: str, expected: object) -> None:
    assert request_id_of(text) == expected


@pytest.mark.parametrize("tail", ['"' * 300_000, '"' + '\\"' * 300_000, '\\"' * 300_000, ":" * 300_000, "x" * 300_000])
def test_hostile_text_is_searched_in_one_pass(tail: str) -> None:
    request_id_of('{"a":' + "[" * 5000 + tail)  # a search in quadratic time would exceed the test's time limit


def test_a_payload_of_numbers_as_long_as_they_may_be_is_searched_in_one_pass() -> None:
    """A backtracking search takes 3 s for a MiB of them, and would exceed the test's time limit."""
    numbers = "[" + ",".join(["9" * 4300] * 6000) + "]"
    request = decode_request(publish_text(numbers))
    assert isinstance(request, Publish)
    assert bytes(request.message.payload) == numbers.encode()
    assert "at most 4300 digits" in refusal(publish_text(numbers[:-1] + ",-" + "12345678909" * 391 + "]"))


@pytest.mark.parametrize("before", [0, 1, 2, 4296, 4297, 4298, 4299, 4300, 8597, 20_000])
def test_a_number_too_long_is_found_wherever_it_stands(before: int) -> None:
    text = f'["{"x" * before}",{{}}]'
    assert "at most 4300 digits" in refusal(publish_text(text.format("7" * 4301)))
    assert isinstance(decode_request(publish_text(text.format("7" * 4300))), Publish)


@given(st.text())
def test_any_text_is_a_request_or_a_bad_request(text: str) -> None:
    try:
        decode_request(text)
    except BadRequest:
        request_id_of(text)


@given(json_values)
def test_any_json_is_a_request_or_a_bad_request(value: Any) -> None:
    for wrapped in (value, {"type": "publish", "topic": value, "message": value}, {"type": value, "request_id": value}):
        text = json.dumps(wrapped)
        try:
            decode_request(text)
        except BadRequest as refused:
            str(refused).encode()
            request_id_of(text)


def test_an_event_keeps_the_order_of_its_fields() -> None:
    event = Event("orders", Message(ID, msgspec.Raw(b'{"a": 1}')), 17, "2025-08-25T10:01:00Z")
    assert encode(event) == (
        b'{"type":"event","topic":"orders","message":{"id":"550e8400-e29b-41d4-a716-446655440000",'
        b'"payload":{"a": 1}},"seq":17,"ts":"2025-08-25T10:01:00Z"}'
    )
    event = msgspec.structs.replace(event, sender='al"ice')
    assert encode(event).endswith(b',"seq":17,"ts":"2025-08-25T10:01:00Z","from":"al\\"ice"}')


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-1", "a whole number >= 0, got -1"),
        ("1.5", "a whole number, got 1.5"),
        ("null", "a whole number, got null"),
        ('"1"', "a whole number, got '1'"),
        ("true", "a whole number, got true"),
        ("1e99", "a whole number, got 1e99"),
        (str(2**53), f"a whole number <= {2**53 - 1}, got {2**53}"),
        ("9" * 400, f"a whole number <= {2**53 - 1}, got 9999"),
    ],
)
def test_refuses_an_expected_seq_that_makes_no_sense(value: str, told: str) -> None:
    text = publish_text("1").removesuffix("}") + f',"expect_seq":{value}}}'
    assert refusal(text).startswith(f"expect_seq: expected {told}")


def test_a_publish_may_expect_a_seq() -> None:
    for seq in (0, 17, 2**53 - 1):
        text = publish_text("1").removesuffix("}") + f',"expect_seq":{seq}}}'
        request = decode_request(text)
        assert isinstance(request, Publish)
        assert request.expect_seq == seq
