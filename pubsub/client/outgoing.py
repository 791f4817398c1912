"""Publishes on their way: at most so many at a time, each with a future for its outcome. It must never encode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pubsub.client.conversation import Conversation
from pubsub.client.errors import OutgoingFull, PubsubError
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
        return await (await self._send(request))

    async def publish_all(self, requests: Iterable[Publish]) -> list[Published]:
        """Publish all, in order, without waiting for one before the next; raise the first failure.

        After a failure no further one is sent, and those that are on their way are awaited.
        """
        outcomes: list[asyncio.Future[Published]] = []
        try:
            await self._send_all(requests, outcomes)
        except asyncio.CancelledError:
            _cancel(outcomes)
            raise
        except Exception:  # from the user's iterable
            await _wait_for(outcomes)
            raise
        await _wait_for(outcomes)
        return [_result_of(outcome, number) for number, outcome in enumerate(outcomes)]

    async def _send_all(self, requests: Iterable[Publish], outcomes: list[asyncio.Future[Published]]) -> None:
        failed = False

        def note(outcome: asyncio.Future[Published]) -> None:
            nonlocal failed
            has_failed = outcome.cancelled() or outcome.exception() is not None  # asyncio logs what nobody asks for
            failed = failed or has_failed

        for request in requests:
            if failed:
                return
            outcome = await self._send(request)
            outcome.add_done_callback(note)
            outcomes.append(outcome)

    async def _send(self, request: Publish) -> asyncio.Future[Published]:
        """Send a publish once there is room. Its future may be cancelled: then it is not sent again."""
        await self._room.acquire()
        outcome: asyncio.Future[Published] = asyncio.get_running_loop().create_future()

        def done(published: Published | PubsubError) -> None:
            if outcome.done():
                return
            if isinstance(published, PubsubError):
                outcome.set_exception(published)
            else:
                outcome.set_result(published)

        def release(ended: asyncio.Future[Published]) -> None:
            self._room.release()
            if ended.cancelled():
                self._conversation.forget(question)

        question = self._conversation.publish(request, done)
        outcome.add_done_callback(release)
        return outcome


def _result_of(outcome: asyncio.Future[Published], number: int) -> Published:
    error = outcome.exception()
    if error is None:
        return outcome.result()
    if isinstance(error, PubsubError):
        error.index = number
    raise error


async def _wait_for(outcomes: Sequence[asyncio.Future[Published]]) -> None:
    try:
        if outcomes:
            await asyncio.wait(outcomes)
    except asyncio.CancelledError:
        _cancel(outcomes)
        raise


def _cancel(outcomes: Sequence[asyncio.Future[Published]]) -> None:
    for outcome in outcomes:
        outcome.cancel()
