"""The owner serves its workers: what is known of each of them, and of the topics of an earlier life of the owner.

Topics in memory end with the owner. The workers know them still: the next owner makes them again, with new epochs.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from pubsub.core.clock import Clock
from pubsub.journals.shared.engine import State
from pubsub.journals.workers.batches import Epochs, Performer, Session
from pubsub.journals.workers.questions import Questions
from pubsub.journals.workers.relay import Relay
from pubsub.journals.workers.wire import OVERHEAD
from pubsub.protocol.errors import Failure

if TYPE_CHECKING:
    from pubsub.core.broker import Broker

log = logging.getLogger(__name__)

SESSION_KEPT: Final = 60.0  # seconds for which a worker without a connection may reconnect


class Service:
    """See the module. ``relay`` is the Host of the journals, ``epochs`` makes their epochs.

    ``max_message_bytes``: the largest request of a client. ``life``: names this life of the owner.
    """

    def __init__(self, broker: Broker, clock: Clock, relay: Relay, epochs: Epochs, *, max_message_bytes: int) -> None:
        self.life = secrets.token_hex(6)
        self.broker = broker
        self.relay = relay
        self.performer = Performer(broker, epochs, relay.tell)
        self.questions = Questions(broker, clock)
        self.longest_frame = 2 * max_message_bytes + OVERHEAD
        self._sessions: dict[str, Session] = {}
        self._ends: dict[str, Callable[[str], None]] = {}
        self._changed = asyncio.Event()

    async def wait_for_workers(self, count: int, *, within: float) -> None:
        """Wait until so many workers know all topics, for some seconds at most."""
        end = asyncio.get_running_loop().time() + within
        while self.workers < count and (left := end - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                break

    @property
    def workers(self) -> int:
        """The number of workers that know all topics."""
        return sum([session.send is not None for session in self._sessions.values()])

    def enter(self, server: str, end: Callable[[str], None]) -> tuple[Session, bool]:
        """A worker has connected. Returns what is known of it, and True if that is not new. ``end`` disconnects it."""
        if (before := self._ends.get(server)) is not None:
            before("it has connected again")
        self._ends[server] = end
        session = self._sessions.get(server)
        known = session is not None
        if session is None:
            session = self._sessions[server] = Session(server)
        session.send = None
        return session, known

    def leave(self, server: str, end: Callable[[str], None]) -> None:
        """A worker's connection has ended. It is forgotten if it does not reconnect soon."""
        if self._ends.get(server) == end:
            del self._ends[server]
            session = self._sessions[server]
            session.send = None
            session.left += 1
            asyncio.get_running_loop().call_later(SESSION_KEPT, self._forget, session, session.left)

    def _forget(self, session: Session, left: int) -> None:
        if session.server not in self._ends and session.left == left:
            self._sessions.pop(session.server, None)

    def note_introduced(self) -> None:
        """A worker knows all topics."""
        self._changed.set()

    def renew(self, states: Sequence[State]) -> None:
        """Make topics of an earlier life again, those first that others may name."""
        for state in sorted(states, key=lambda each: each.options.dead_letter is not None):
            if self.broker.exists(state.name):
                continue
            self.relay.renewed[state.name] = state.epoch
            try:
                self.broker.create_topic(state.name, state.options)
            except Failure as failure:
                del self.relay.renewed[state.name]
                log.warning(
                    "Topic not made again: %(topic)s: %(reason)s", {"topic": state.name, "reason": str(failure)}
                )
