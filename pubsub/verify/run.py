"""One run of all checks, in a limited time. It must never print, and it leaves no topic behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from pubsub.client.address import cause_of
from pubsub.client.errors import LimitExceeded, PubsubError, RateLimited
from pubsub.verify.checks import CHECKS, FURTHER_CHECKS, IDLE_CHECKS, Check, IdleCheck
from pubsub.verify.deployment import Deployment
from pubsub.verify.outcomes import CheckFailed, CheckSkipped, Outcome, State
from pubsub.verify.websocket import Closed, HandshakeRefused

Tell = Callable[[Outcome], Awaitable[None]]
CHECK_SEC: Final = 8.0
"""The longest time for one check; a good server takes less than a second for each."""


class Run:
    """See the module. ``seconds`` limits all checks together; ``watches``: with those of idle connections."""

    def __init__(self, deployment: Deployment, seconds: float, *, watches: bool) -> None:
        self._deployment = deployment
        self._end = time.monotonic() + seconds
        self._watches = watches
        self._passed: set[str] = set()

    @property
    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    async def all(self, tell: Tell) -> None:
        """Make all checks; ``tell`` gets the outcome of each as soon as it is known."""
        for check in CHECKS:
            await tell(await self._check(check))
        watching = [asyncio.create_task(self._watch(check)) for check in IDLE_CHECKS]
        try:
            for check in FURTHER_CHECKS:
                await tell(await self._check(check))
            for task in watching:
                await tell(await task)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)

    async def _check(self, check: Check) -> Outcome:
        if (skipped := self._skipped(check)) is not None:
            return skipped
        limit = min(CHECK_SEC, self._left)
        return await self._conclude(check, limited(check.run(self._deployment), limit))

    async def _watch(self, check: IdleCheck) -> Outcome:
        if not self._watches:
            return Outcome(check.name, check.did, State.SKIPPED, "left out by --quick")
        if (skipped := self._skipped(check)) is not None:
            return skipped
        return await self._conclude(check, check.watch(self._deployment, self._left))

    def _skipped(self, check: Check | IdleCheck) -> Outcome | None:
        missing = [name for name in check.needs if name not in self._passed]
        if not missing and self._left:
            return None
        reason = f"it needs {missing[0]}" if missing else "the time was over (--seconds)"
        return Outcome(check.name, check.did, State.SKIPPED, reason)

    async def _conclude(self, check: Check | IdleCheck, running: Awaitable[str]) -> Outcome:
        try:
            detail = await running
        except CheckSkipped as skipped:
            return Outcome(check.name, check.did, State.SKIPPED, str(skipped))
        except (RateLimited, LimitExceeded) as limit:
            return Outcome(check.name, check.did, State.SKIPPED, f"a limit of the server: {limit}")
        except CheckFailed as failed:
            return Outcome(check.name, check.did, State.FAILED, str(failed), failed.advice)
        except (PubsubError, OSError, Closed, HandshakeRefused) as error:
            return Outcome(check.name, check.did, State.FAILED, explain(error))
        self._passed.add(check.name)
        return Outcome(check.name, check.did, State.OK, detail)


async def limited(running: Awaitable[str], seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await running
    except TimeoutError:
        if not limit.expired():
            raise
        raise CheckFailed(f"no answer within {seconds:.0f} s") from None


def explain(error: Exception) -> str:
    if isinstance(error, HandshakeRefused):
        return f"the handshake was answered with {error.answer.status}"
    return f"the connection failed: {cause_of(error)}" if isinstance(error, OSError) else str(error)
