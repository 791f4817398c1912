"""The metrics of all workers for the one that was scraped: the supervisor asks the others for theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw

from pubsub.workers.control import ANSWER, ASK, GATHERED, QUESTION, Answer, GatheredMetrics, Message, Question
from pubsub.workers.worker import Worker

WAIT: Final = 2.0  # seconds for the answers; a worker that is stopped is left out

_encode = msgspec.msgpack.Encoder().encode


class Gathering:
    """See the module. ``workers`` are all of them."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._asked = 0
        self._open: dict[int, Round] = {}

    def take(self, worker: Worker, message: Message) -> None:
        """A worker asks, or answers."""
        if message.kind == ASK:
            self._begin(worker, msgspec.msgpack.decode(message.body, type=Question))
        elif message.kind == ANSWER:
            answer = msgspec.msgpack.decode(message.body, type=Answer)
            if (round_ := self._open.get(answer.number)) is not None:
                round_.take(worker.number, answer.parts)

    def _begin(self, asking: Worker, question: Question) -> None:
        self._asked += 1
        number = self._asked
        others = [each for each in self._workers if each is not asking and each.share.open and not each.share.silent]
        starts = {each.number: each.starts for each in self._workers}

        def end(parts: Mapping[int, Raw]) -> None:
            del self._open[number]
            asking.send(GATHERED, _encode(GatheredMetrics(question.number, dict(parts), starts)))

        self._open[number] = Round({each.number for each in others}, end)
        for each in others:
            each.send(QUESTION, _encode(Question(number, question.openmetrics)))


class Round:
    """One question. ``end`` gets the answers once all are there, or the time is over."""

    def __init__(self, waiting: set[int], end: Callable[[Mapping[int, Raw]], None]) -> None:
        self._waiting = waiting
        self._end = end
        self._parts: dict[int, Raw] = {}
        self._timer = asyncio.get_running_loop().call_later(WAIT if waiting else 0, self._finish)

    def take(self, number: int, parts: Raw) -> None:
        self._parts[number] = parts
        self._waiting.discard(number)
        if not self._waiting:
            self._timer.cancel()
            self._finish()

    def _finish(self) -> None:
        self._end(self._parts)
