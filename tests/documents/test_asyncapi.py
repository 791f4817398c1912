"""The AsyncAPI document: valid, with each message that there is, and it allows the requests that the server accepts."""

from __future__ import annotations

import copy
import json
import re
import warnings
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.documents.asyncapi import make_asyncapi, schema_name
from pubsub.documents.examples import EXAMPLES
from pubsub.documents.wording import EXCHANGES, NOTICES, STREAMS
from pubsub.protocol.errors import BadRequest, CloseReason, Failure
from pubsub.protocol.patterns import check_pattern, check_topic
from pubsub.protocol.replies import Info, Reply
from pubsub.protocol.requests import AnyRequest, Subscribe, Unsubscribe, decode_request
from tests.described import REQUESTS, check_received, is_request
from tests.harness import Json
from tests.test_docs import infos

DOCUMENT = make_asyncapi()


def test_it_is_valid() -> None:
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of pydantic, about names of fields
        from asyncapi3.models import AsyncAPI3  # type: ignore[import-untyped]

    AsyncAPI3.model_validate(DOCUMENT)


def test_references_lead_somewhere() -> None:
    found = re.findall(r"'\$ref': '#/([^']+)'", str(DOCUMENT))
    assert found
    for reference in found:
        place: Any = DOCUMENT
        for key in reference.split("/"):
            place = place[key]


def test_it_has_each_message_and_no_other() -> None:
    own = {each.__name__ for each in (*get_args(AnyRequest), *get_args(Reply)) if each is not Info}
    notices = {schema_name(name) for name, notice in NOTICES.items() if notice.by != STREAMS}
    assert DOCUMENT["components"]["messages"].keys() == own | notices
    assert NOTICES.keys() == infos()
    assert EXCHANGES.keys() == set(REQUESTS)


def test_each_message_is_sent_or_received() -> None:
    used = set(re.findall(r"#/channels/websocket/messages/(\w+)", str(DOCUMENT["operations"])))
    assert used == DOCUMENT["channels"]["websocket"]["messages"].keys() == DOCUMENT["components"]["messages"].keys()


def test_each_request_has_its_operation() -> None:
    operations = DOCUMENT["operations"]
    received = {name for name, each in operations.items() if each["action"] == "receive"}
    assert received == {kind.__struct_config__.tag for kind in get_args(AnyRequest)}
    for name in received:
        assert operations[name]["reply"]["messages"][-1]["$ref"].endswith("/Error")


def test_errors_and_close_codes_are_those_of_the_code() -> None:
    codes = {each.code for each in Failure.__subclasses__() if each.by_websocket}
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == codes
    text = DOCUMENT["info"]["description"]
    assert set(re.findall(r"^- `(\w+)`: ", text, re.MULTILINE)) == codes
    assert re.findall(r"^- (\d+): ", text, re.MULTILINE) == [str(each.code) for each in CloseReason]


@pytest.mark.parametrize("name", DOCUMENT["components"]["messages"])
def test_examples_are_messages(name: str) -> None:
    (example,) = DOCUMENT["components"]["messages"][name]["examples"]
    if name in REQUESTS:
        decode_request(json.dumps(example["payload"]))
        assert is_request(example["payload"])
    else:
        check_received(example["payload"])


def test_unknown_messages_are_noticed() -> None:
    """The checks of all tests that send and receive would be worth nothing otherwise."""
    event = EXAMPLES["Event"]
    for message in (
        event | {"more": 1},
        event | {"seq": "1"},
        event | {"ts": "yesterday"},
        event | {"message": {"id": "x", "payload": 1}},
        {"type": "info", "msg": "ping"},
        {"type": "info", "msg": "dropped", "topic": "a", "count": 1, "ts": event["ts"]},
        {"type": "error", "error": {"code": "TEAPOT", "message": "no"}, "ts": event["ts"]},
    ):
        with pytest.raises(AssertionError):
            check_received(message)


# Filters and their params are checked later, when the topic is known.
FREE = {"filter", "params"}
values = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([2**53, 10**9, 0.5]) | st.text(max_size=3)
    | st.sampled_from(["a.b", "a.*", "x" * 256, "550e8400-e29b-41d4-a716-446655440000"])
    | st.lists(st.integers(), max_size=1) | st.sampled_from([{}, {"a": 1}, {"a": {"epoch": "e", "seq": 1}}])
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Json:
    """A request of the examples in which a field has another value, or is missing."""
    name = draw(st.sampled_from(REQUESTS))
    request: Json = copy.deepcopy(EXAMPLES[name])
    fields = sorted(DOCUMENT["components"]["schemas"][name]["properties"].keys() - FREE)
    for field in draw(st.lists(st.sampled_from([*fields, "unknown"]), max_size=2)):
        place = request
        if field == "message" and isinstance(request.get(field), dict) and draw(st.booleans()):
            place, field = request[field], draw(st.sampled_from(["id", "payload"]))
        if draw(st.booleans()):
            place[field] = draw(values)
        else:
            place.pop(field, None)
    return request


@given(requests())
def test_it_allows_what_the_server_accepts_and_nothing_else(request: Json) -> None:
    try:
        accept(json.dumps(request))
    except BadRequest:
        assert not is_request(request)
    else:
        assert is_request(request)


def accept(text: str) -> None:
    """Raise BadRequest for a request that the server refuses, whatever topics there are."""
    request = decode_request(text)
    if isinstance(request, Subscribe | Unsubscribe):
        check_pattern(request.topic)
    elif topic := getattr(request, "topic", ""):
        check_topic(topic)
    elif hasattr(request, "topic"):
        check_topic("")
