"""Questions to all servers, with a limit of time. An answer of any size comes in pieces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

from pubsub.cluster.bus import MOST_BYTES, Bus
from pubsub.cluster.members import Members
from pubsub.protocol.errors import Failure

log = logging.getLogger(__name__)

ASK: Final = "ask"
WAIT: Final = 2.0  # seconds without a piece, after which a server is left out
WAIT_IN_ALL: Final = 10.0  # seconds
PIECE: Final = MOST_BYTES - 1024  # bytes of an answer in one message
MOST_ANSWERED: Final = 100  # questions that are answered at a time; others get no answer
MOST_TOGETHER: Final = 256 * 1024 * 1024  # bytes of all answers to a question

Answerer = Callable[[bytes], Awaitable[bytes]]


class Question(Struct, frozen=True, array_like=True, gc=False):
    """``number``: among those of the server that asks. ``servers``: those that are asked."""

    number: int
    kind: str
    servers: list[str]
    body: bytes


class Piece(Struct, frozen=True, array_like=True, gc=False):
    """A part of an answer. ``number``: of the question. ``index``: from 0."""

    number: int
    index: int
    last: bool
    data: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_piece = msgspec.msgpack.Decoder(Piece).decode


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers by server, and the servers that did not answer in time, sorted."""

    found: dict[str, bytes]
    missing: list[str]


@dataclass(slots=True)
class Pending:
    """A question that waits. ``waiting``: the servers, each with the pieces that have come."""

    waiting: dict[str, list[bytes]]
    came: asyncio.Event = field(default_factory=asyncio.Event)
    found: dict[str, bytes] = field(default_factory=dict)
    size: int = 0

    def take(self, server: str, piece: Piece) -> None:
        pieces = self.waiting.get(server)
        if pieces is None:
            return
        self.size += len(piece.data)
        if piece.index != len(pieces) or self.size > MOST_TOGETHER:  # a piece was lost, or it is too much
            self.lose(server)
            return
        pieces.append(piece.data)
        if piece.last:
            self.found[server] = b"".join(self.waiting.pop(server))
        self.came.set()

    def lose(self, server: str) -> None:
        """A server will not answer."""
        if self.waiting.pop(server, None) is not None:
            self.came.set()


class Questions:
    """See the module. ``members`` knows the servers that there are."""

    def __init__(self, bus: Bus, members: Members) -> None:
        self._bus = bus
        self._members = members
        self._asked = 0
        self._pending: dict[int, Pending] = {}
        self._answerers: dict[str, Answerer] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._stopped = False
        bus.hear(ASK, self._hear_question)
        bus.hear(f"answer:{bus.server}", self._hear_piece)

    def answer_with(self, kind: str, answerer: Answerer) -> None:
        """Answer all questions of a kind."""
        self._answerers[kind] = answerer

    async def ask(self, kind: str, body: bytes, servers: Collection[str] | None = None) -> Answers:
        """Ask other servers, or only some of them, and wait. The question has up to MOST_BYTES."""
        asked = sorted(self._members.others if servers is None else servers)
        if not asked or self._members.is_cut_off:
            return Answers({}, asked)
        self._asked += 1
        number = self._asked
        pending = self._pending[number] = Pending({server: [] for server in asked})
        try:
            self._bus.tell(ASK, _encode(Question(number, kind, asked, body)))
            await self._wait_for(pending)
        finally:
            del self._pending[number]
        return Answers(pending.found, [server for server in asked if server not in pending.found])

    async def _wait_for(self, pending: Pending) -> None:
        end = asyncio.get_running_loop().time() + WAIT_IN_ALL
        while pending.waiting:
            pending.came.clear()
            wait = min(WAIT, end - asyncio.get_running_loop().time())
            try:
                await asyncio.wait_for(pending.came.wait(), wait)
            except TimeoutError:
                return

    def lose(self, server: str) -> None:
        """A server has ended."""
        for pending in self._pending.values():
            pending.lose(server)

    def stop(self) -> None:
        self._stopped = True
        for task in self._answering:
            task.cancel()

    def _hear_piece(self, server: str, data: bytes) -> None:
        piece = _decode_piece(data)
        if (pending := self._pending.get(piece.number)) is not None:
            pending.take(server, piece)

    def _hear_question(self, server: str, data: bytes) -> None:
        if server == self._bus.server or self._stopped:
            return
        question = _decode_question(data)
        answerer = self._answerers.get(question.kind)
        if answerer is None or self._bus.server not in question.servers or len(self._answering) >= MOST_ANSWERED:
            return
        task = asyncio.get_running_loop().create_task(self._answer(server, question, answerer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, server: str, question: Question, answerer: Answerer) -> None:
        try:
            answer = await answerer(question.body)
        except Failure:
            return  # it cannot be answered here now: the server that asked says so
        except Exception:
            log.exception("Internal error at a question of another server: %(kind)s", {"kind": question.kind})
            return
        for index, start in enumerate(range(0, len(answer) or 1, PIECE)):
            if index:
                await asyncio.sleep(0)  # a tick of its own, for each is a batch of the engine
            end = start + PIECE
            piece = Piece(question.number, index, end >= len(answer), answer[start:end])
            self._bus.tell(f"answer:{server}", _encode(piece))
