"""The canary: a push that this server must get from itself every few seconds; otherwise its connection is deaf."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

import hiredis

from pubsub.journals.redis.batches import REBUILD
from pubsub.journals.redis.connection import Connection, command
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import decode_canary, encode

BEAT_SECONDS: Final = 2.0
BEATS_MISSED: Final = 3  # beats without an answer: the connection is deaf


class Canary:
    """See the module. It also probes if Redis decides: ``trouble`` gets the reason if not, and else an empty one.

    ``take`` gets the pushes. ``seen`` gives the number of the last push with records: while they come, it is not deaf.
    """

    def __init__(
        self,
        server: str,
        scripts: Scripts,
        random: Random,
        trouble: Callable[[str], None],
        seen: Callable[[], int],
    ) -> None:
        self._server = server
        self._scripts = scripts
        self._random = random
        self._trouble = trouble
        self._seen = seen
        self._seen_before = -1  # up to the last beat
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered = 0  # beats
        self._silent = 0  # beats in which nothing came on the second connection
        self._heard = 0  # there, up to the last beat

    def begin(self, main: Connection, second: Connection, number: int) -> None:
        """Begin with new connections."""
        self._main, self._second, self._number = main, second, number
        self._unanswered = self._silent = self._heard = 0
        self._beat()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        if self._seen() != self._seen_before:
            self._unanswered, self._seen_before = 0, self._seen()
        if self._unanswered >= BEATS_MISSED:
            self._main.close(f"no push came back for {self._unanswered * BEAT_SECONDS:g} s")
            return
        self._unanswered += 1
        probe = self._scripts.batch.run(encode((self._server, self._number, 0, 0, "", ())))
        self._main.send(probe, self._probed)
        self._main.send(self._scripts.beat.run(self._server, self._number), self._beaten)
        self._silent = self._silent + 1 if self._second.heard == self._heard else 0
        if self._silent > BEATS_MISSED:
            self._main.close(f"no page was read for {BEATS_MISSED * BEAT_SECONDS:g} s")
            return
        self._heard = self._second.heard
        self._second.send(command("PING"), lambda _: None)
        seconds = BEAT_SECONDS * self._random.uniform(0.8, 1.2)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._beat)

    def _probed(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply))
        else:
            self._trouble("")

    def _beaten(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply))
            self._unanswered = 0  # it answers, and the probe tells what is wrong

    def _refused(self, text: str) -> None:
        if text.partition(" ")[0] in REBUILD:
            self._main.close(text)
        else:
            self._trouble(text)

    def take(self, message: bytes) -> tuple[int, float]:
        """Take a canary; returns the number of the last push, and the time of Redis."""
        self._unanswered = 0
        canary = decode_canary(message)
        return canary.n, canary.time
