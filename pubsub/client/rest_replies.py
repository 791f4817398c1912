"""The meaning of a REST answer that is no success: its error, and the time after which it may be another. No I/O."""

from __future__ import annotations

import email.utils
import time
from http import HTTPStatus
from http.client import HTTPMessage
from typing import Final

import msgspec

from pubsub.client.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Internal,
    LimitExceeded,
    PubsubError,
    RateLimited,
    Refused,
    ServerFault,
    TooBig,
    TopicNotFound,
    Unauthorized,
)
from pubsub.protocol.answers import ErrorAnswer

_REFUSALS: Final[dict[int, type[Refused]]] = {
    HTTPStatus.BAD_REQUEST: BadRequest,
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: TopicNotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.TOO_MANY_REQUESTS: LimitExceeded,
    HTTPStatus.INTERNAL_SERVER_ERROR: Internal,
    HTTPStatus.SERVICE_UNAVAILABLE: Internal,
}
# A proxy answers so while its server restarts, and does not tell if that had the request.
UNKNOWN_OUTCOME: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_TEMPORARY: Final = UNKNOWN_OUTCOME | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.SERVICE_UNAVAILABLE}


def may_pass(error: PubsubError) -> bool:
    """Return True if the same request may succeed later without anybody's doing."""
    return isinstance(error, RateLimited) or (isinstance(error, Refused) and error.status in _TEMPORARY)


def error_of(status: int, headers: HTTPMessage, body: bytes) -> PubsubError:
    """Make the error of an answer with a status other than 2xx."""
    if status < HTTPStatus.BAD_REQUEST:
        return ServerFault(f"expected an answer, got status {status}: the server is at {headers.get('Location')!r}")
    answer = _read(body)
    if answer is None and status == HTTPStatus.NOT_FOUND:
        return ServerFault(f"expected a server of this protocol at the URL, got status {status} from another one")
    text = answer.error if answer is not None else f"status {int(status)}, without a reason"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooBig(text)
    if status == HTTPStatus.TOO_MANY_REQUESTS and (answer is None or "Retry-After" in headers):
        return _rate_limited(text, headers)
    kind = _REFUSALS.get(status, Refused)
    error = kind(text, status=status)
    if isinstance(error, Conflict) and answer is not None and isinstance(answer.seq, int):
        error.seq = answer.seq
    return error


def _rate_limited(text: str, headers: HTTPMessage) -> RateLimited:
    error = RateLimited(text, status=HTTPStatus.TOO_MANY_REQUESTS)
    error.retry_after_ms = int(1000 * retry_after(headers))
    return error


def retry_after(headers: HTTPMessage) -> float:
    """Return the seconds that the server asks to wait (RFC 9110, 10.2.3: a number, or a date); 0 if it asks nothing."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _read(body: bytes) -> ErrorAnswer | None:
    try:
        return msgspec.json.decode(body, type=ErrorAnswer)
    except (msgspec.DecodeError, RecursionError):
        return None
