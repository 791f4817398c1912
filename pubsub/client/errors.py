"""All errors that a client raises. It must never raise one by itself.

Every one is a :class:`PubsubError`. The text says what was expected and what came; it never has a token or a key in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from pubsub.client.events import Event

AnyError = TypeVar("AnyError", bound="PubsubError")

__all__ = ["AnswerTimeout", "BadRequest", "Conflict", "Disconnected", "Forbidden", "Internal", "LimitExceeded",
           "OutgoingFull", "PayloadError", "PubsubError", "RateLimited", "Refused", "ServerFault",
           "TokenError", "TooBig", "TopicExists", "TopicNotFound", "Unauthorized", "Unreachable",
           "UntrustedCertificate", "error_for"]  # fmt: skip


class PubsubError(Exception):
    """The base of all errors of a client. They can be copied and pickled.

    ``index``: of the payload that failed in a ``publish_many``, from 0; those before it are published.
    """

    index: int | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)

    def copy(self) -> Self:
        """Return the same error without a traceback: one that several tasks raise would collect all of theirs."""
        return _restore(type(self), self.args, self.__dict__)


class Unreachable(PubsubError):
    """There is no connection, or no answer came; the text gives the reason."""


class UntrustedCertificate(Unreachable):
    """The server's certificate does not fit its name, or nobody who is trusted has signed it."""


class AnswerTimeout(Unreachable):
    """No answer came in time. After a publish, the message may or may not be in the topic."""


class Disconnected(PubsubError):
    """The connection has ended for good: to try again by itself could not help.

    ``code``: the close code of the WebSocket (4403, 4401, 1008, …), or the HTTP status of a refused handshake.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class TokenError(PubsubError):
    """The token function raised (see ``__cause__``), did not return in time, or returned no text."""


class PayloadError(PubsubError):
    """A payload is not of the expected type, or can't be written as JSON.

    ``event``: the event with that payload as JSON text; None if it was to be published.
    """

    def __init__(self, text: str, event: Event[Any] | None = None) -> None:
        super().__init__(text)
        self.event = event


class OutgoingFull(PubsubError):
    """``max_outgoing`` publishes wait for their answers, and ``when_full`` is "raise". Nothing was sent."""


class TooBig(PubsubError):
    """The server closed the connection because this message has more than its ``MAX_MESSAGE_BYTES``."""


class ServerFault(PubsubError):
    """The server sent what no server of this protocol sends."""


class Refused(PubsubError):
    """The server refused a request. ``code`` is that of the protocol; ``status`` that of HTTP, 0 over a WebSocket."""

    code: str = ""

    def __init__(self, text: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(text)
        self.code = code or self.code
        self.status = status


class BadRequest(Refused):
    """A field is missing or wrong; the text names it."""

    code = "BAD_REQUEST"


class TopicNotFound(Refused):
    """The topic does not exist."""

    code = "TOPIC_NOT_FOUND"


class TopicExists(Refused):
    """A topic of that name exists."""

    code = "TOPIC_EXISTS"


class Forbidden(Refused):
    """The token does not allow this on this topic. The answer does not tell if the topic exists."""

    code = "FORBIDDEN"


class Unauthorized(Refused):
    """The token or the API key is missing, invalid or expired."""

    code = "UNAUTHORIZED"


class RateLimited(Refused):
    """The client sends more than its rate allows. ``retry_after_ms``: the time until the next request may come."""

    code = "RATE_LIMITED"

    def __init__(self, text: str, *, code: str = "", status: int = 0, retry_after_ms: int = 0) -> None:
        super().__init__(text, code=code, status=status)
        self.retry_after_ms = retry_after_ms


class Conflict(Refused):
    """The topic has another ``seq`` than ``expect_seq``; nothing was published. ``seq``: that of the topic."""

    code = "CONFLICT"

    def __init__(self, text: str, *, code: str = "", status: int = 0, seq: int = 0) -> None:
        super().__init__(text, code=code, status=status)
        self.seq = seq


class LimitExceeded(Refused):
    """A limit of the server is reached; the text has it."""

    code = "LIMIT_EXCEEDED"


class Internal(Refused):
    """The server failed to serve this request, or to store the message; its log has the details."""

    code = "INTERNAL"


def _restore(kind: type[AnyError], args: tuple[object, ...], state: Mapping[str, object]) -> AnyError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


_BY_CODE: Final[dict[str, type[Refused]]] = {kind.code: kind for kind in Refused.__subclasses__()}


def error_for(code: str) -> type[Refused]:
    """Return the class of an error of the protocol; ``Refused`` itself for a code that is not known here."""
    return _BY_CODE.get(code, Refused)
