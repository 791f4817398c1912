"""Publishes on their way: at most so many at a time, and the outcome of each for its user. It must never encode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pubsub.client.conversation import Conversation
from pubsub.client.errors import OutgoingFull, PubsubError
from pubsub.client.exchange import Question
from pubsub.client.outcomes import Published
from pubsub.client.requests import Publish

__all__ = ["Outgoing"]


class Outgoing:
    """See the module. ``limit``: of publishes without an outcome. ``waits``: one more waits, rather than to fail."""

    def __init__(self, conversation: Conversation, limit: int, *, waits: bool) -> None:
        self._conversation = conversation
        self._limit = limit
        self._waits = waits
        self._room = asyncio.Semaphore(limit)

    async def publish(self, request: Publish) -> Published:
        if self._room.locked() and not self._waits:
            raise OutgoingFull(f"{self._limit} publishes wait for their answers (max_outgoing); nothing was sent")
        (published,) = await self.publish_all([request])
        return published

    async def publish_all(self, requests: Iterable[Publish]) -> list[Published]:
        """Publish all, in order, without waiting for one before the next; raise the first failure.

        After a failure no further one is sent, and those that are on their way are awaited.
        """
        batch = _Batch(self._conversation, self._room)
        try:
            await batch.send(requests)
            await batch.wait()
        except asyncio.CancelledError:
            batch.forget()
            raise
        return batch.results()


class _Batch:
    """Some publishes in their order. ``room`` is acquired for each, and released at its outcome."""

    def __init__(self, conversation: Conversation, room: asyncio.Semaphore) -> None:
        self._conversation = conversation
        self._room = room
        self._outcomes: list[Published | PubsubError | None] = []
        self._open: dict[int, Question] = {}  # those without an outcome, by their place in the list
        self._failed = False
        self._error: Exception | None = None  # of the user's iterable
        self._finished = asyncio.Event()

    async def send(self, requests: Iterable[Publish]) -> None:
        try:
            for request in requests:
                await self._room.acquire()
                if self._failed:
                    self._room.release()
                    return
                self._send_one(request)
        except Exception as error:
            self._error = error

    async def wait(self) -> None:
        """Wait for the outcomes of all that were sent."""
        while self._open:
            self._finished.clear()
            await self._finished.wait()

    def forget(self) -> None:
        """Send no more of them: nobody waits for them."""
        for question in self._open.values():
            self._conversation.forget(question)
            self._room.release()
        self._open.clear()

    def results(self) -> list[Published]:
        """Return the outcomes, or raise the first failure."""
        found: list[Published] = []
        for number, outcome in enumerate(self._outcomes):
            assert outcome is not None, "wait has returned"
            if isinstance(outcome, PubsubError):
                outcome.index = number
                raise outcome
            found.append(outcome)
        if self._error is not None:
            raise self._error
        return found

    def _send_one(self, request: Publish) -> None:
        number = len(self._outcomes)
        self._outcomes.append(None)

        def done(outcome: Published | PubsubError) -> None:
            self._outcomes[number] = outcome
            self._failed = self._failed or isinstance(outcome, PubsubError)
            self._open.pop(number, None)
            self._room.release()
            if not self._open:
                self._finished.set()

        question = self._conversation.publish(request, done)
        if self._outcomes[number] is None:  # a client that has ended answers at once
            self._open[number] = question
