"""Prints the items of subscriptions as they come, and keeps a file with the positions. It must never subscribe."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Raw

from pubsub.cli.output import STANDARD_OUTPUT, Output, Step, no_step
from pubsub.cli.printed import Item, Print
from pubsub.cli.resume_file import save_positions
from pubsub.cli.running import remark
from pubsub.client import Disconnected, Event, Gap, Notice, Position
from pubsub.console.items import describe_notice

if TYPE_CHECKING:
    from pubsub.client import Subscription

REMARKED: Final = ("topic_deleted", "unsubscribed")
"""Notices that a person gets in any case: for the time being no event follows them."""


class Tail:
    """See the module. ``count``: events to print, None for no end; ``has_gaps``: a gap was printed.

    ``file`` gets the positions once their lines have been written: after a crash lines may come twice, but none is
    left out.
    """

    def __init__(self, show: Print, *, count: int | None, notices: bool, file: Path | None) -> None:
        self.subscriptions: list[Subscription[Raw]] = []
        self.output = Output(STANDARD_OUTPUT, checkpoint=self._checkpoint)
        self.has_gaps = False
        self._show = show
        self._left = count
        self._notices = notices
        self._file = file
        self._end: dict[str, Position] | None = None  # the positions after the last event that was asked for

    async def print(self, subscription: Subscription[Raw]) -> None:
        """Print the items of a subscription, until all subscriptions together have had so many events."""
        async for item in subscription:
            if self._end is None:
                self._take(item)
            if self._end is not None:
                return
            if self.output.is_full:
                await self.output.wait_for_room()
        raise Disconnected(0, f"the server ended the subscription to {subscription.topic}")

    def _take(self, item: Item) -> None:
        match item:
            case Event() if self._left is not None:
                self._left -= 1
            case Gap():
                self.has_gaps = True
            case Notice() if not self._notices:
                if item.kind in REMARKED:
                    remark("sub", describe_notice(item))
                return
            case _:
                pass
        self.output.put(self._show(item))
        if self._left == 0:
            self._end = self._positions()

    def _positions(self) -> dict[str, Position]:
        return {topic: position for each in self.subscriptions for topic, position in each.position.items()}

    def _checkpoint(self) -> Step:
        if self._file is None:
            return no_step
        return partial(save_positions, self._file, self._positions() if self._end is None else self._end)
