"""Refusals of the server, over a WebSocket or over REST, as errors. It must never raise one by itself."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET

from pubsub.client.errors import Conflict, RateLimited, Refused, error_for
from pubsub.protocol.replies import Problem

__all__ = ["refusal_of", "refusal_over_http", "text_of"]

_CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "TOPIC_NOT_FOUND",
    409: "TOPIC_EXISTS",
    413: "BAD_REQUEST",
    429: "LIMIT_EXCEEDED",
    500: "INTERNAL",
    503: "INTERNAL",
}
"""The codes of HTTP statuses. A 409 with a ``seq`` is a conflict, a 429 with a time to wait a limit of the rate."""


class _Body(msgspec.Struct):
    error: str
    seq: int | None = None


def refusal_of(problem: Problem) -> Refused:
    """Make the error of the ``error`` message of a WebSocket."""
    kind = error_for(problem.code)
    if kind is RateLimited and problem.retry_after_ms is not UNSET:
        return RateLimited(problem.message, retry_after_ms=problem.retry_after_ms)
    if kind is Conflict and problem.seq is not UNSET:
        return Conflict(problem.message, seq=problem.seq)
    return kind(problem.message, code=problem.code)


def refusal_over_http(status: int, body: bytes, *, reason: str = "", retry_after: str | None = None) -> Refused:
    """Make the error of a status and the body of its answer.

    ``reason`` is the text for a body that is not of this server. ``retry_after`` is that header, in seconds.
    """
    found = _decode(body)
    text = found.error or reason or "no reason given"
    if status == 409 and found.seq is not None:
        return Conflict(text, status=status, seq=found.seq)
    if status == 429 and retry_after is not None and retry_after.isdecimal():
        return RateLimited(text, status=status, retry_after_ms=1000 * int(retry_after))
    code = _CODES.get(status, "")
    return error_for(code)(text, code=code, status=status)


def text_of(body: bytes) -> str:
    """Return the text of the server in the body of a refusal; empty if a proxy has answered."""
    return _decode(body).error


def _decode(body: bytes) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, RecursionError):
        return _Body("")
