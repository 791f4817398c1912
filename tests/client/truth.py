"""All that has happened in a simulated world: the lives of each topic, their messages, and what is still kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oracle import Record
from reading import Place

from pubsub.core.event import StoredEvent

if TYPE_CHECKING:
    from collections.abc import Callable


class Truth:
    """See the module. ``keeps``: asks the server or its disk. ``ids``: the places of each message's id.

    ``deleted``: topics and epochs that were deleted on purpose.
    """

    def __init__(self, keeps: Callable[[Place], bool]) -> None:
        self.record = Record()
        self.lives: dict[str, list[str]] = {}  # epochs by topic, in order
        self.ids: dict[str, list[Place]] = {}
        self.deleted: set[tuple[str, str]] = set()
        self.keeps = keeps

    def begin(self, topic: str, epoch: str) -> None:
        """A topic begins a life, or is restored."""
        lives = self.lives.setdefault(topic, [])
        if epoch not in lives:
            lives.append(epoch)

    def is_deleted(self, topic: str, epoch: str) -> bool:
        return (topic, epoch) in self.deleted

    def note(self, topic: str, epoch: str, event: StoredEvent) -> None:
        """A message exists from now on."""
        message = json.loads(event.text)["message"]
        self.begin(topic, epoch)
        self.record.note(topic, epoch, event.seq, message)
        self.ids.setdefault(message["id"], []).append(Place(topic, epoch, event.seq))
