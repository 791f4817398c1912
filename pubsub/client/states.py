"""The states of a client, and the changes that ``on_state`` is told of. It must never connect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pubsub.client.errors import PubsubError

__all__ = ["State", "StateChange"]


class State(Enum):
    """CONNECTING also between two connections. CLOSED is for good."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class StateChange:
    """A new state, or a further failure in the same one.

    ``reason`` is for people. ``error``: that of the last connection or attempt, None if the state is OPEN.
    ``retry_sec``: the pause before the next attempt, None if there will be none.
    """

    state: State
    reason: str
    error: PubsubError | None = None
    retry_sec: float | None = None
