"""Refused operations that may be on disk all the same: a log may be written and not synced. Their effects are undone.

Only the writing thread uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pubsub.core.event import StoredEvent
from pubsub.journals.operations import Append, AppendAll, Create, Delete, Extent, Operation, Purge
from pubsub.journals.store import Store


class Undo:
    """See the module. ``cuts``: by topic, the last ``seq`` that was not refused."""

    def __init__(self) -> None:
        self.cuts: dict[int, int] = {}
        self._steps: list[Callable[[Store], None]] = []

    def remember(self, operation: Operation) -> None:
        """Remember an operation that was part of a failed transaction, if it had an effect."""
        match operation:
            case Append(outcomes=outcomes) | AppendAll(events=outcomes):
                for outcome in outcomes:
                    if isinstance(outcome, StoredEvent):
                        self.cuts.setdefault(operation.log.number, outcome.seq - 1)
                        break
            case Create(number=number, failure=None) if number:
                self._steps.append(partial(Store.forget, number=number))
            case Delete(log=log, applied=True):
                self._steps.append(partial(Store.rename, number=log.number, epoch=log.epoch, name=log.name))
            case Purge(log=log, before=Extent(first=start, size=size)):
                self._steps.append(partial(Store.extend, number=log.number, epoch=log.epoch, first=start, size=size))

    def apply(self, store: Store) -> None:
        """Undo everything. It is forgotten by :meth:`clear`, once the store could be read."""
        if self.cuts or self._steps:
            with store.transaction():
                for step in self._steps:
                    step(store)
                for number, seq in self.cuts.items():
                    store.cut(number, seq)

    def clear(self) -> None:
        self.cuts, self._steps = {}, []
