"""Errors: their codes and statuses, what each transport is told, and that nothing of the server's inside is in it."""

from __future__ import annotations

import json

import pytest

from pubsub.protocol import errors
from pubsub.protocol.errors import (
    BadRequest,
    ClientNotFound,
    CloseReason,
    Conflict,
    Draining,
    Failure,
    Flooding,
    Forbidden,
    Internal,
    LimitExceeded,
    MessageNotFound,
    NotAnswered,
    NotStored,
    RateLimited,
    ServerFull,
    SlowConsumer,
    TopicExists,
    TopicNotFound,
    Unauthorized,
    error_body,
)
from pubsub.protocol.replies import encode, error_reply

# Each failure, its code, its status, its text for WebSocket clients and for REST clients.
FAILURES: list[tuple[Failure, str, int, str, str]] = [
    (BadRequest("topic: wrong"), "BAD_REQUEST", 400, "topic: wrong", "topic: wrong"),
    (TopicNotFound("a"), "TOPIC_NOT_FOUND", 404, "Topic 'a' does not exist", "topic not found"),
    (TopicExists("a"), "TOPIC_EXISTS", 409, "Topic 'a' exists", "topic already exists"),
    (ClientNotFound(), "CLIENT_NOT_FOUND", 404, "client not found", "client not found"),
    (MessageNotFound(), "MESSAGE_NOT_FOUND", 404, "message not found", "message not found"),
    (
        SlowConsumer(),
        "SLOW_CONSUMER",
        503,
        "Too slow: the queue is full and nothing of it was read; reconnect and resume",
        "Too slow: the queue is full and nothing of it was read; reconnect and resume",
    ),
    (Draining(), "DRAINING", 503, "server is shutting down", "server is shutting down"),
    (Internal(), "INTERNAL", 500, "internal error", "internal error"),
    (
        NotStored(),
        "INTERNAL",
        503,
        "not stored: the server's journal fails",
        "not stored: the server's journal fails",
    ),
    (
        NotAnswered(),
        "INTERNAL",
        503,
        "not answered: the server's journal fails",
        "not answered: the server's journal fails",
    ),
    (Unauthorized("token: expired"), "UNAUTHORIZED", 401, "token: expired", "token: expired"),
    (Forbidden("not yours"), "FORBIDDEN", 403, "not yours", "not yours"),
    (RateLimited(1), "RATE_LIMITED", 429, "too many requests", "too many requests"),
    (Flooding(1), "RATE_LIMITED", 429, "too many requests", "too many requests"),
    (
        Conflict(17, 18),
        "CONFLICT",
        409,
        "expect_seq: expected 17, but the seq of the topic is 18",
        "expect_seq: expected 17, but the seq of the topic is 18",
    ),
    (LimitExceeded("has its 2"), "LIMIT_EXCEEDED", 429, "has its 2", "has its 2"),
    (ServerFull("has its 2"), "LIMIT_EXCEEDED", 503, "has its 2", "has its 2"),
]


def name_of(failure: object) -> str:
    return type(failure).__name__


@pytest.mark.parametrize(
    ("failure", "code", "status", "text", "rest_text"), FAILURES, ids=[name_of(row[0]) for row in FAILURES]
)
def test_each_failure_has_its_code_its_status_and_its_texts(
    failure: Failure, code: str, status: int, text: str, rest_text: str
) -> None:
    assert (failure.code, failure.status) == (code, status)
    assert (str(failure), failure.rest_text) == (text, rest_text)


def test_every_failure_of_the_module_is_in_the_table() -> None:
    known = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Failure)]
    assert {each.__name__ for each in known} == {name_of(row[0]) for row in FAILURES} | {"Failure"}


def test_three_failures_end_a_connection_and_the_others_do_not() -> None:
    assert {name_of(row[0]): row[0].close_reason for row in FAILURES if row[0].close_reason} == {
        "SlowConsumer": CloseReason.SLOW_CONSUMER,
        "Unauthorized": CloseReason.UNAUTHORIZED,
        "Flooding": CloseReason.FLOODING,
    }


def test_header_fields_tell_how_to_go_on() -> None:
    headers = {name_of(row[0]): row[0].headers for row in FAILURES if row[0].headers}
    assert headers == {
        "Unauthorized": {"WWW-Authenticate": "Bearer"},
        "RateLimited": {"Retry-After": "1"},
        "Flooding": {"Retry-After": "1"},
    }


@pytest.mark.parametrize(
    ("wait", "milliseconds", "seconds"), [(0.0004, 1, "1"), (0.25, 250, "1"), (1.0, 1000, "1"), (1.0001, 1001, "2")]
)
def test_no_client_is_told_to_come_back_too_early(wait: float, milliseconds: int, seconds: str) -> None:
    failure = RateLimited(wait)
    assert failure.retry_after_ms == milliseconds
    assert failure.headers == {"Retry-After": seconds}


@pytest.mark.parametrize("reason", CloseReason)
def test_close_codes_and_reasons_are_what_a_close_frame_may_hold(reason: CloseReason) -> None:
    """RFC 6455: section 7.4.1 and 7.4.2 for the codes, 5.5 for the length: 125 bytes, of which the code takes 2."""
    assert reason.code in (1001, 1002, 1007, 1008, 1009, 1011, 1013) or 4000 <= reason.code < 5000
    assert 0 < len(reason.reason.encode()) <= 123


def test_no_two_close_reasons_have_the_same_words() -> None:
    assert len({reason.reason for reason in CloseReason}) == len(CloseReason)


@pytest.mark.parametrize("text", ["topic not found", 'a "quoted" name', "line\nbreak", "\u2028 \ud7ff é"])
def test_the_body_of_an_error_is_json_with_its_text(text: str) -> None:
    body = error_body(text)
    assert json.loads(body) == {"error": text}
    assert b"\n" not in body


def test_a_conflict_tells_the_seq_and_its_place_in_a_list() -> None:
    failure = Conflict(17, 18, item=2)
    assert str(failure) == "[2].expect_seq: expected 17, but the seq of the topic is 18"
    assert json.loads(error_body(failure.rest_text, failure.details)) == {"error": str(failure), "seq": 18}
    reply = json.loads(encode(error_reply(failure, "r", "now")))
    assert reply["error"] == {"code": "CONFLICT", "message": str(failure), "seq": 18}
