"""The contract between a session and its connection: answers, pauses, the identity, the end. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from pubsub.auth.identity import Identity
from pubsub.protocol.errors import CloseReason


class PauseReason(enum.Enum):
    """A reason not to read from a client. Each is one bit: they come and go on their own."""

    LONG_MESSAGE = 1  # it waits for its turn
    ANSWER = 2  # an answer comes later, and must come before later answers
    UNANSWERED = 4  # MAX_WAITING publishes wait for their answers
    JOURNAL = 8  # it has as much to write as it takes
    FILTERS = 16  # many events wait for the evaluation of filters
    SYNC = 32  # another server may know the topic of a request


class Replies(Protocol):
    """Answers to a client: in order, never dropped, written together at the end of the tick or at :meth:`flush`."""

    def reply(self, text: bytes) -> None: ...

    def reply_all(self, texts: Sequence[bytes]) -> None: ...

    def flush(self) -> None: ...

    def pause(self, reason: PauseReason) -> None:
        """Give the session no further message until :meth:`resume` has come for each reason."""
        ...

    def resume(self, reason: PauseReason) -> None: ...

    def identify(self, identity: Identity) -> None:
        """Set the identity of the client, until it expires."""
        ...

    def close(self, reason: CloseReason) -> None:
        """Close the connection after all answers."""
        ...


class NoReplies:
    """Ignore the answers to a client that is gone."""

    def reply(self, text: bytes) -> None:
        pass

    def reply_all(self, texts: Sequence[bytes]) -> None:
        pass

    def flush(self) -> None:
        pass

    def pause(self, reason: PauseReason) -> None:
        pass

    def resume(self, reason: PauseReason) -> None:
        pass

    def identify(self, identity: Identity) -> None:
        pass

    def close(self, reason: CloseReason) -> None:
        pass
