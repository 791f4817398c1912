"""The Python client, and the base of every client: the server's address, messages, requests, frames, close codes.

It knows the protocol and nothing of the server. It must never print. An import of this package alone loads no module:
``pubsub.client.credentials`` stays cheap, and the names below are loaded when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pubsub.client.client import Client
    from pubsub.client.errors import (
        AnswerTimeout,
        BadRequest,
        Conflict,
        Disconnected,
        Forbidden,
        Internal,
        LimitExceeded,
        OutgoingFull,
        PayloadError,
        PubsubError,
        RateLimited,
        Refused,
        ServerFault,
        TokenError,
        TooBig,
        TopicExists,
        TopicNotFound,
        Unauthorized,
        Unreachable,
        UntrustedCertificate,
    )
    from pubsub.client.events import Event, Gap, Item, Notice, Position
    from pubsub.client.outcomes import History, Presence, PresentClient, Published, TopicDetails, TopicSummary
    from pubsub.client.publisher import Publisher
    from pubsub.client.states import State, StateChange
    from pubsub.client.subscriber import Subscriber
    from pubsub.client.subscription import Subscription

__all__ = [
    "AnswerTimeout",
    "BadRequest",
    "Client",
    "Conflict",
    "Disconnected",
    "Event",
    "Forbidden",
    "Gap",
    "History",
    "Internal",
    "Item",
    "LimitExceeded",
    "Notice",
    "OutgoingFull",
    "PayloadError",
    "Position",
    "Presence",
    "PresentClient",
    "Published",
    "Publisher",
    "PubsubError",
    "RateLimited",
    "Refused",
    "ServerFault",
    "State",
    "StateChange",
    "Subscriber",
    "Subscription",
    "TokenError",
    "TooBig",
    "TopicDetails",
    "TopicExists",
    "TopicNotFound",
    "TopicSummary",
    "Unauthorized",
    "Unreachable",
    "UntrustedCertificate",
]

_MODULES = ("errors", "events", "outcomes", "publisher", "states", "subscription", "client", "subscriber")


def __getattr__(name: str) -> object:
    """Load a name of ``__all__`` from its module."""
    if name in __all__:
        for module in _MODULES:
            found = import_module(f"{__name__}.{module}")
            if name in found.__all__:
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
