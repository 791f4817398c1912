"""A connection of a worker, as the owner sees it: the greeting, the states of all topics, then records and answers.

A worker that does not take its records is cut off: it connects again, and then it is told how far all topics are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from pubsub.core.event import StoredEvent
from pubsub.journals.workers.frames import FrameConnection
from pubsub.journals.workers.outcomes import failed
from pubsub.journals.workers.wire import (
    GREETING_BYTES,
    VERSION,
    Answer,
    Ask,
    Count,
    Done,
    Failed,
    FindMissing,
    FromWorker,
    Hello,
    Page,
    Question,
    Read,
    Refused,
    Renew,
    Sent,
    Sync,
    Synced,
    Welcome,
    WireError,
    decode_from_worker,
    frame,
    page_of,
)
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.journals.workers.batches import Session
    from pubsub.journals.workers.service import Service

log = logging.getLogger(__name__)

# Bytes that a worker has not taken: then it is cut off, which costs it a state for each topic. Records of all workers
# are the same objects, so that several slow ones take little more memory than one.
MOST_BEHIND: Final = 32 * 1024 * 1024
INTRODUCED_AT_ONCE: Final = 500  # topics whose states are sent in one turn: 2 ms


class Link:
    """See the module. ``connection`` has been made, and nothing has come yet."""

    def __init__(self, service: Service, connection: FrameConnection) -> None:
        self.session: Session | None = None
        self._service = service
        self._connection = connection
        self._paused = False
        connection.splitter.most = GREETING_BYTES
        connection.take = self._greet

    @property
    def accepted(self) -> bool:
        return self.session is not None

    def write(self, encoded: bytes) -> None:
        """Send a frame, or end the connection."""
        connection = self._connection
        if connection.fault:
            return
        if connection.unsent > MOST_BEHIND:
            self.end(f"it is {connection.unsent} bytes behind")
        else:
            connection.write(encoded)

    def end(self, fault: str) -> None:
        self._connection.abort(fault)

    def lost(self) -> None:
        """The connection has ended."""
        self._service.relay.remove(self.write)
        if self.session is not None:
            self._service.leave(self.session.server, self.end)
        if self._connection.fault:
            log.warning("A worker is disconnected: %(reason)s", {"reason": self._connection.fault})

    def send(self, encoded: bytes) -> None:
        """Send something that must come after the records that there are."""
        self._service.relay.flush()
        self.write(encoded)

    def send_outcomes(self, encoded: bytes) -> None:
        """Send outcomes at the end of the tick: so the records of all batches of a tick are one frame."""
        self._service.relay.send_after(self.write, encoded)

    # The beginning

    def _greet(self, text: memoryview) -> None:
        try:
            hello = decode_from_worker(text)
        except WireError:
            hello = None
        if not isinstance(hello, Hello) or hello.version != VERSION:
            reason = f"it is no worker of version {VERSION}"
            self._connection.write(frame(Refused(f"the owner expects a worker of version {VERSION}")))
            raise WireError(reason)
        self.session, known = self._service.enter(hello.server, self.end)
        self._connection.splitter.most = self._service.longest_frame
        self._connection.take = self._renew
        self._connection.write(frame(Welcome(self._service.life, known)))

    def _renew(self, text: memoryview) -> None:
        """Take the topics that the worker knows from an earlier life of the owner, then tell it of all topics."""
        message = decode_from_worker(text)
        if not isinstance(message, Renew):
            raise WireError("a message other than Renew")
        self._service.renew(message.topics)
        if not message.more:
            self._connection.take = self._take
            self._service.relay.add(self.write)
            self._introduce([topic.name for topic in self._service.broker.topics])

    def _introduce(self, names: list[str]) -> None:
        """Tell of the next topics as they are now, in turns, as fast as the worker takes it."""
        if self._connection.fault or self._connection.transport.is_closing():
            return
        relay, broker = self._service.relay, self._service.broker
        relay.flush()
        current = [name for name in names[:INTRODUCED_AT_ONCE] if broker.exists(name)]
        states: list[Sent] = [relay.state_of(broker.find_topic(name)) for name in current]
        relay.send(states, [self.write])
        if rest := names[INTRODUCED_AT_ONCE:]:
            go_on = partial(broker.turns.take, partial(self._introduce, rest))
            if self._connection.writable:
                go_on()
            else:
                self._connection.call_when_writable(go_on)
            return
        self.send(frame(Synced()))
        assert self.session is not None, "it was accepted"
        self.session.send = self.send_outcomes
        self._service.note_introduced()

    # Afterwards

    def _take(self, text: memoryview) -> None:
        message: FromWorker = decode_from_worker(text)
        match message:
            case Ask():
                self._ask(message)
            case Sync() | Read() | FindMissing():
                self._answer(message)
            case _:
                raise WireError("a second greeting")

    def _ask(self, ask: Ask) -> None:
        session = self.session
        if session is None or session.send != self.send_outcomes:
            raise WireError("a batch before the topics are known")
        session.forget(ask.settled)
        if ask.number <= session.done:
            session.send_again(ask.number)
        else:
            self._service.performer.perform(session, ask.number, ask.operations)
        if not self._paused:
            self._pause_when_full()

    def _pause_when_full(self) -> None:
        """Read nothing from a worker while the durable journal or the filters have too much to do."""
        broker = self._service.broker
        self._paused = True
        if broker.call_when_writable(self._resume):
            self._connection.transport.pause_reading()
        elif broker.filters_busy:
            self._connection.transport.pause_reading()
            broker.call_when_filtered(self._resume)
        else:
            self._paused = False

    def _resume(self) -> None:
        self._paused = False
        if not self._connection.transport.is_closing():
            self._connection.transport.resume_reading()

    def _answer(self, question: Question) -> None:
        service, number = self._service, question.number
        try:
            match question:
                case Sync():
                    self._send_answer(number, Done())
                case Read(_, known, after, until, limit):
                    service.questions.read(known, after, until, limit, lambda found: self._send_page(number, found))
                case FindMissing(_, known, after, until):
                    service.questions.find_missing(known, after, until, lambda found: self._send_found(number, found))
        except Failure as failure:
            self._send_answer(number, failed(failure))

    def _send_page(self, number: int, found: Sequence[StoredEvent] | Failure) -> None:
        self._send_answer(number, failed(found) if isinstance(found, Failure) else page_of(found))

    def _send_found(self, number: int, found: bool | Failure) -> None:
        self._send_answer(number, failed(found) if isinstance(found, Failure) else Count(int(found)))

    def _send_answer(self, number: int, found: Done | Page | Count | Failed) -> None:
        self.send(frame(Answer(number, found)))
