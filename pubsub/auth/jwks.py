"""The keys of an identity provider, fetched by URL: cached, renewed regularly, and kept when the provider fails.

One task fetches them. The provider is asked at most once in ``LEAST_PAUSE``, whatever tokens come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp

from pubsub.auth.keys import TrustedKey, jwks_keys

log = logging.getLogger(__name__)

LEAST_PAUSE: Final = 30.0  # seconds between two requests
LONGEST_PAUSE: Final = 600.0  # seconds after which a key that the provider has withdrawn is no longer trusted
ANSWER_WAIT: Final = 5.0  # seconds
MAX_BYTES: Final = 1 << 20
CHECKED_AT_ONCE: Final = 20  # waiting tokens that are checked in one step once the keys are there: about 3 ms


class NotFetched(OSError):
    """The keys could not be fetched. The text says why."""


class KeySet:
    """See the module. ``keys`` is the last valid set; empty before the first one."""

    def __init__(self, url: str, algorithms: Sequence[str], *, least_pause: float = LEAST_PAUSE) -> None:
        self.keys: Sequence[TrustedKey] = ()
        self.url = url
        self.algorithms = algorithms
        self._least_pause = least_pause
        self._waiting: list[Callable[[], None]] = []
        self._wanted = asyncio.Event()
        self._resting = False
        self._task: asyncio.Task[None] | None = None

    def refresh(self, then: Callable[[], None]) -> bool:
        """See KeySource. Within the pause, nothing is fetched."""
        if self._resting:
            return False
        self._waiting.append(then)
        self._wanted.set()
        return True

    def start(self) -> None:
        """Renew the set from now on, until :meth:`stop`."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Renew it no more. Tokens that wait for a key are verified with those that there are."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._tell_waiting()

    async def _keep(self) -> None:
        if not self.keys:
            await self._fetch()
        while True:
            self._wanted.clear()
            self._resting = True
            await self._tell_waiting()
            await asyncio.sleep(self._least_pause)
            self._resting = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), LONGEST_PAUSE - self._least_pause if self.keys else 0)
            await self._fetch()

    async def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, then in enumerate(waiting, 1):
            asyncio.get_running_loop().call_soon(then)
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def load(self) -> None:
        """Fetch the set now. Raises NotFetched."""
        try:
            self.keys = jwks_keys(await self._download(), self.algorithms)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise NotFetched(str(error) or type(error).__name__) from None

    async def _fetch(self) -> None:
        try:
            await self.load()
        except NotFetched as error:
            log.warning(
                "Keys not renewed from %(url)s, %(count)d kept: %(error)s",
                {"url": self.url, "count": len(self.keys), "error": str(error)},
            )
        except Exception:  # a fault of a library must not end the task, which renews the keys
            log.exception("Internal error at the keys from %(url)s", {"url": self.url})

    async def _download(self) -> bytes:
        # Its own context: aiohttp's knows no CA in a server (system/programs.py). Loading them takes
        # 20 ms, so not on the loop.
        tls = await asyncio.to_thread(ssl.create_default_context)
        async with (
            asyncio.timeout(ANSWER_WAIT),
            aiohttp.TCPConnector(ssl=tls) as connector,
            aiohttp.ClientSession(connector=connector, raise_for_status=True) as http,
            http.get(self.url, allow_redirects=False) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
            return bytes(body)
