"""Beats: the supervisor asks each worker every second, and ends one whose loop has not answered for a long time.

A worker that is silent gets no more connections, and ``/health`` says so. One that starts is not asked: it reads all
topics at once, and has more time. Turns of the supervisor are counted, and no clock is read: if the whole machine stops
for a while, everybody has as long as before.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from typing import Final

from pubsub.workers.control import BEAT, TROUBLE
from pubsub.workers.spread import Share
from pubsub.workers.worker import Worker

log = logging.getLogger(__name__)

PERIOD: Final = 1.0  # seconds
HUNG: Final = 30  # beats without an answer, after which a worker is ended
HUNG_AT_START: Final = 300  # beats until a worker is ready; a start with 1,000,000 topics takes 10 CPU seconds
DUMP_WAIT: Final = 1.0  # seconds in which a worker writes to the log where it hangs, before it is killed


class Beats:
    """See the module."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._told: dict[Share, str] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self.beat()

    def beat(self) -> None:
        """Ask all workers, and tell them what became of the last question."""
        for worker in self._workers:
            if worker.share.open:
                self._ask(worker)
            elif worker.starting:
                self._count(worker, HUNG_AT_START)
        self.tell_trouble()

    def _ask(self, worker: Worker) -> None:
        if worker.share.unanswered == 0:
            worker.send(BEAT)
        self._count(worker, HUNG)

    def _count(self, worker: Worker, most: int) -> None:
        """Count a beat without an answer, and end the worker after so many."""
        share = worker.share
        share.unanswered += 1
        if share.unanswered == most:
            log.error(
                "Worker %(worker)d has not answered for %(seconds).0f seconds, and is ended",
                {"worker": worker.number, "seconds": most * PERIOD},
            )
            worker.kill(signal.SIGABRT)  # one that is stopped takes no signal but the next one
            asyncio.get_running_loop().call_later(DUMP_WAIT, self._kill, worker, share)

    def _kill(self, worker: Worker, share: Share) -> None:
        if worker.share is share:
            worker.kill()

    def tell_trouble(self) -> None:
        """Tell each worker what is wrong with any of them, when that has changed or the worker is new."""
        trouble = "; ".join(dict.fromkeys(filter(None, map(trouble_of, self._workers))))
        told, self._told = self._told, {}
        for worker in self._workers:
            if worker.share.open:
                self._told[worker.share] = trouble
                if told.get(worker.share, "") != trouble:
                    worker.send(TROUBLE, trouble.encode())


def trouble_of(worker: Worker) -> str:
    """The reason for which a worker does not serve, or is degraded; empty if all is well."""
    if not worker.share.open:
        return f"worker {worker.number} is being started again"
    return f"worker {worker.number} does not answer" if worker.share.silent else worker.share.trouble
