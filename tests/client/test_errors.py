"""The errors of a client: their classes, and refusals over a WebSocket and over REST."""

from __future__ import annotations

import copy
import pickle

import pytest
from msgspec import Raw

from pubsub.client import errors
from pubsub.client.errors import (
    BadRequest,
    Conflict,
    Disconnected,
    Forbidden,
    Internal,
    LimitExceeded,
    PayloadError,
    PubsubError,
    RateLimited,
    Refused,
    TopicExists,
    TopicNotFound,
    Unauthorized,
    error_for,
)
from pubsub.client.events import Event
from pubsub.client.refusals import refusal_of, refusal_over_http
from pubsub.protocol import errors as protocol
from pubsub.protocol.replies import Problem

ERRORS: list[PubsubError] = [
    Disconnected(4403, "bye"),
    Conflict("text", seq=7, status=409),
    RateLimited("text", retry_after_ms=5),
    Refused("text", code="NEW"),
    PayloadError("text", Event("t", 1, "e", "i", 5, "ts")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_pickled(error: PubsubError) -> None:
    error.index = 3
    for same in (error.copy(), copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert str(same) == str(error)
        assert same.__dict__ == error.__dict__
        assert same.__traceback__ is None


def test_every_name_of_the_module_is_an_error_of_the_client() -> None:
    for name in errors.__all__:
        if name != "error_for":
            assert issubclass(getattr(errors, name), PubsubError)


def test_every_code_of_the_protocol_has_a_class() -> None:
    # They come with the end, or to operators.
    closing = {"SLOW_CONSUMER", "DRAINING", "CLIENT_NOT_FOUND", "MESSAGE_NOT_FOUND"}
    kinds = [each for each in vars(protocol).values() if isinstance(each, type) and issubclass(each, protocol.Failure)]
    codes = {kind.code for kind in kinds if kind is not protocol.Failure}
    assert {code for code in codes - closing if error_for(code) is Refused} == set()
    assert error_for("NEW") is Refused


def test_refusals_of_a_websocket() -> None:
    limited = refusal_of(Problem("RATE_LIMITED", "slower", retry_after_ms=7))
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_ms == 7
    conflict = refusal_of(Problem("CONFLICT", "other", seq=9))
    assert isinstance(conflict, Conflict)
    assert conflict.seq == 9
    other = refusal_of(Problem("NEW", "text"))
    assert (type(other), other.code, str(other)) == (Refused, "NEW", "text")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, BadRequest), (401, Unauthorized), (403, Forbidden), (404, TopicNotFound), (409, TopicExists),
     (413, BadRequest), (429, LimitExceeded), (500, Internal), (503, Internal), (418, Refused)],
)  # fmt: skip
def test_refusals_of_rest(status: int, kind: type[Refused]) -> None:
    refusal = refusal_over_http(status, b'{"error":"text"}')
    assert (type(refusal), str(refusal), refusal.status) == (kind, "text", status)


def test_refusals_of_rest_with_more_to_say() -> None:
    conflict = refusal_over_http(409, b'{"error":"other","seq":9}')
    assert isinstance(conflict, Conflict)
    assert conflict.seq == 9
    limited = refusal_over_http(429, b'{"error":"slower"}', retry_after="2")
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_ms == 2000


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":5}', b"[" * 10_000, Raw(b"\xff")])
def test_refusals_of_a_proxy(body: bytes) -> None:
    assert str(refusal_over_http(502, bytes(body), reason="Bad Gateway")) == "Bad Gateway"
    assert str(refusal_over_http(502, bytes(body))) == "no reason given"
