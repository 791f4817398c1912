"""The commands as values. It must never read text, nor send anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DEFAULT_LAST: Final = 10
"""The number of messages that ``history`` shows."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription to a topic or a pattern. ``filter`` is CEL; empty is none. ``params``: values for it."""

    topic: str
    last: int = 0
    filter: str = ""
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    topic: str


@dataclass(frozen=True, slots=True)
class Publish:
    """A publish; ``payload`` is JSON text, unchanged if it was typed as JSON. None is no option."""

    topic: str
    payload: str
    ttl: float | None = None
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class ListTopics:
    pass


@dataclass(frozen=True, slots=True)
class ListRules:
    pass


@dataclass(frozen=True, slots=True)
class TraceMessage:
    """A question for the fate of a message at the connections of a client."""

    client_id: str
    topic: str
    seq: int


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """A topic to create; ``options`` are names and values for REST, which the server checks."""

    topic: str
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    topic: str


@dataclass(frozen=True, slots=True)
class PurgeTopic:
    """A topic whose kept messages are to be forgotten."""

    topic: str


@dataclass(frozen=True, slots=True)
class RedriveLetters:
    """A topic with dead letters, whose messages are to be published again: up to ``limit`` letters after ``after``."""

    topic: str
    after: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """The kept messages to show: the ``last`` ones, or up to ``limit`` of those after ``after``. None is no option."""

    topic: str
    last: int | None = None
    after: int | None = None
    limit: int | None = None
    filter: str = ""
    params: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ListClients:
    """A question for the clients that are in a topic."""

    topic: str


@dataclass(frozen=True, slots=True)
class Help:
    """A request for help; ``commands`` are the names of those to explain."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Quit:
    pass


@dataclass(frozen=True, slots=True)
class Nothing:
    """A blank line."""


OverWebSocket = Subscribe | Unsubscribe | Publish | Ping | ReadHistory | ListClients
OverRest = ListTopics | ListRules | TraceMessage | CreateTopic | DeleteTopic | PurgeTopic | RedriveLetters
Command = OverWebSocket | OverRest | Help | Quit | Nothing
