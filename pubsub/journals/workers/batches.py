"""The owner carries out the batches of workers on its Broker, each once, and keeps the outcomes until they have come.

It knows no socket.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec import UNSET

from pubsub.core.journal import random_epoch
from pubsub.core.log import Assignment
from pubsub.journals.shared.engine import Create, Delete, Known, Outcome, Purge, Tell
from pubsub.journals.workers.outcomes import send_outcome
from pubsub.journals.workers.wire import Asked, Outcomes, Publishes, frame
from pubsub.protocol.errors import Failure, Internal, TopicNotFound

if TYPE_CHECKING:
    from pubsub.core.broker import Broker
    from pubsub.protocol.requests import Publish

log = logging.getLogger(__name__)

Settle = Callable[[Outcome], None]


class Epochs:
    """Makes the epochs of new topics. ``wanted``: that of the next one, which a worker has chosen."""

    wanted = ""

    def __call__(self) -> str:
        wanted, self.wanted = self.wanted, ""
        return wanted or random_epoch()


class Batch:
    """A batch in progress. ``outcomes`` has None where one is still to come, until ``missing`` is 0."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.outcomes: list[Outcome] = [None] * size
        self.missing = size


class Session:
    """One worker, over all its connections. ``done``: the number of the last batch that was begun.

    ``send``: its connection; None while it has none, or does not know all topics yet. ``left``: how often it left.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.done = 0
        self.left = 0
        self.send: Callable[[bytes], None] | None = None
        self._running: deque[Batch] = deque()
        self._ended: dict[int, bytes] = {}  # frames with outcomes, until the worker has them

    def begin(self, number: int, size: int) -> Batch:
        """Begin a batch of so many operations."""
        self.done = number
        batch = Batch(number, size)
        self._running.append(batch)
        return batch

    def settle(self, batch: Batch, place: int, outcome: Outcome) -> None:
        """An operation has this outcome. Outcomes are sent in the order of the batches."""
        batch.outcomes[place] = outcome
        batch.missing -= 1
        self.send_ended()

    def send_ended(self) -> None:
        """Send the outcomes of the first batches that have all of them."""
        while self._running and not self._running[0].missing:
            first = self._running.popleft()
            text = frame(Outcomes(first.number, [send_outcome(each) for each in first.outcomes]))
            self._ended[first.number] = text
            if self.send is not None:
                self.send(text)

    def forget(self, settled: int) -> None:
        """The worker has all outcomes up to this number."""
        while self._ended and (oldest := next(iter(self._ended))) <= settled:
            del self._ended[oldest]

    def send_again(self, number: int) -> None:
        """The worker asks for a batch again. One that is still in progress ends later."""
        if self.send is not None and (text := self._ended.get(number)) is not None:
            self.send(text)


class Appending:
    """The publisher of the publishes of a worker (Publisher). ``settle`` gets the outcome of each."""

    def __init__(self, sender: str, count: int, settle: Settle) -> None:
        self.client_id = sender
        self._count = count
        self._settle = settle
        self._outcomes: list[Assignment | Failure] = []

    def published(self, requests: Sequence[Publish], first: int, ts: str) -> None:
        self._outcomes += [Assignment(seq, duplicate=False) for seq in range(first, first + len(requests))]
        self._end()

    def repeated(self, request: Publish, seq: int, ts: str) -> None:
        self._outcomes.append(Assignment(seq, duplicate=True))
        self._end()

    def refused(self, request: Publish, failure: Failure) -> None:
        self._outcomes.append(failure)
        self._end()

    def wait(self, requests: Sequence[Publish]) -> None:
        pass

    def _end(self) -> None:
        if len(self._outcomes) == self._count:
            self._settle(self._outcomes)


class Performer:
    """Carries out operations. ``tell`` gives a message to all servers."""

    def __init__(self, broker: Broker, epochs: Epochs, tell: Callable[[str, str, bytes], None]) -> None:
        self._broker = broker
        self._epochs = epochs
        self._tell = tell

    def perform(self, session: Session, number: int, operations: Sequence[Asked]) -> None:
        """Carry out the operations of a batch."""
        batch = session.begin(number, len(operations))
        for place, operation in enumerate(operations):
            settle = partial(session.settle, batch, place)
            try:
                self._begin(session.server, operation, settle)
            except Failure as failure:
                settle(failure)
            except Exception:  # the other operations are carried out all the same
                log.exception("Internal error at an operation of a worker")
                settle(Internal())
        session.send_ended()

    def _begin(self, server: str, operation: Asked, settle: Settle) -> None:
        match operation:
            case Publishes():
                self._publish(operation, settle)
            case Create():
                self._create(operation, settle)
            case Delete():
                self._check(operation.known)
                expected = UNSET if operation.expect_seq is None else operation.expect_seq
                self._broker.delete_topic(operation.known.name, settle, expected)
            case Purge():
                self._check(operation.known)
                self._broker.purge(operation.known.name, settle)
            case Tell():
                self._tell(server, operation.kind, operation.data)
                settle(None)

    def _publish(self, operation: Publishes, settle: Settle) -> None:
        requests, name = operation.requests, operation.known.name
        if not requests:
            self._broker.find_topic(name)
            settle(())
        elif operation.together:
            self._broker.publish_all(name, requests, operation.sender, settle)
        else:
            self._broker.publish(requests, Appending(operation.sender, len(requests), settle))

    def _create(self, operation: Create, settle: Settle) -> None:
        self._epochs.wanted = operation.epoch
        try:
            self._broker.create_topic(operation.name, operation.options, settle)
        finally:
            self._epochs.wanted = ""

    def _check(self, known: Known) -> None:
        if self._broker.find_topic(known.name).epoch != known.epoch:
            raise TopicNotFound(known.name)
