"""The meaning of a REST answer that is no success: its error, and the time after which it may be another. No I/O."""

from __future__ import annotations

import email.utils
import time
from http import HTTPStatus
from http.client import HTTPMessage
from typing import Final

from pubsub.client.errors import PubsubError, RateLimited, Refused, ServerFault, TooBig
from pubsub.client.http_connections import Reply
from pubsub.client.refusals import refusal_over_http, text_of

# A proxy answers so while its server restarts, and does not tell if that had the request.
UNKNOWN_OUTCOME: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_TEMPORARY: Final = UNKNOWN_OUTCOME | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.SERVICE_UNAVAILABLE}


def may_pass(error: PubsubError) -> bool:
    """Return True if the same request may succeed later, though nobody does anything."""
    return isinstance(error, RateLimited) or (isinstance(error, Refused) and error.status in _TEMPORARY)


def error_of(reply: Reply) -> PubsubError:
    """Make the error of an answer with a status other than 2xx."""
    status, text = reply.status, text_of(reply.body)
    if status < HTTPStatus.BAD_REQUEST:
        place = reply.headers.get("Location")
        return ServerFault(
            f"expected an answer, got status {status}: use the URL of the server itself, maybe {place!r}"
        )
    if status == HTTPStatus.NOT_FOUND and not text:
        return ServerFault(f"expected a server of this protocol at the URL, got status {status} from another one")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooBig(text or reply.reason)
    if status == HTTPStatus.TOO_MANY_REQUESTS and not text:  # of a proxy, where it is always a rate
        return RateLimited(reply.reason, status=status, retry_after_ms=int(1000 * retry_after(reply.headers)))
    seconds = str(int(retry_after(reply.headers))) if "Retry-After" in reply.headers else None
    return refusal_over_http(status, reply.body, reason=reply.reason, retry_after=seconds)


def retry_after(headers: HTTPMessage) -> float:
    """Return the seconds that the server asks to wait (RFC 9110, 10.2.3: a number, or a date); 0 if it asks nothing."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
