"""Rules that delete idle topics: the first of the servers deletes, and asks the others before."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from pubsub.cluster.members import Members
from pubsub.cluster.questions import Questions

if TYPE_CHECKING:
    from pubsub.core.broker import Broker
    from pubsub.core.topic import Topic

log = logging.getLogger(__name__)

KIND: Final = "used"
GATHERED: Final = 0.05  # seconds, after which topics are asked for together
AT_ONCE: Final = 100  # topics of one question: 26 KB at most

Then = Callable[[bool], None]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode


class SharedIdle:
    """See the module. A topic counts as used if any server does not answer."""

    def __init__(self, broker: Broker, questions: Questions, members: Members) -> None:
        self._broker = broker
        self._questions = questions
        self._members = members
        self._waiting: deque[tuple[Topic, Then]] = deque()
        self._asking: asyncio.Task[None] | None = None
        questions.answer_with(KIND, self._answer)

    def ask(self, topic: Topic, then: Then) -> None:
        """Call ``then`` with True if another server uses the topic, or if another one is to delete it."""
        if not self._members.is_first or self._members.is_cut_off:
            then(True)
        else:
            self._waiting.append((topic, then))
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask_all())

    def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHERED)
                names = [topic.name for topic, _ in islice(self._waiting, AT_ONCE)]
                used = await self._find_used(names)
                for _ in names:
                    topic, then = self._waiting.popleft()
                    then(topic.name in used)
        finally:
            self._asking = None

    async def _find_used(self, names: list[str]) -> set[str]:
        answers = await self._questions.ask(KIND, _encode(names))
        if answers.missing:
            return set(names)
        try:
            return {name for answer in answers.found.values() for name in _decode(answer)}
        except msgspec.MsgspecError:  # of a server of another version
            log.exception("Internal error at a question of another server: %(kind)s", {"kind": KIND})
            return set(names)

    async def _answer(self, body: bytes) -> bytes:
        return _encode([name for name in _decode(body) if self._is_used(name)])

    def _is_used(self, name: str) -> bool:
        return self._broker.exists(name) and self._broker.idle.is_used(self._broker.find_topic(name))
