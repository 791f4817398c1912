"""Questions to the engine if this server knows all that there is. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pubsub.protocol.errors import Failure, NotAnswered

if TYPE_CHECKING:
    from pubsub.core.log import Done
    from pubsub.journals.shared.engine import Engine
    from pubsub.journals.shared.healing import Healing

Found = TypeVar("Found")


class Question:
    """Those who wait for one answer, each of them once: an answer that comes too late is no answer."""

    def __init__(self, waiting: list[Callable[[Any], None]]) -> None:
        self._waiting = waiting

    def answer(self, found: Any) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(found)


class Freshness:
    """See the module. ``in_order`` calls a callback after all records that came before.

    The questions of a tick are one. ``wait``: seconds after which there is no answer any more.
    """

    def __init__(
        self,
        engine: Engine,
        in_order: Callable[[Callable[[], None]], None],
        healing: Healing,
        defer: Callable[[Callable[[], None]], object],
        call_later: Callable[[float, Callable[[], None]], object],
        wait: float,
    ) -> None:
        self._engine = engine
        self._in_order = in_order
        self._healing = healing
        self._defer = defer
        self._call_later = call_later
        self._wait = wait
        self._waiting: list[Done] = []

    def sync(self, done: Done) -> None:
        """Call ``done`` once all has come that the engine had at this call, or with a failure."""
        if not self._waiting:
            self._defer(self._ask)
        self._waiting.append(done)

    def bound(self, done: Callable[[Found | Failure], None]) -> Callable[[Found | Failure], None]:
        """``done``, which gets a failure if no answer has come in time."""
        question = Question([done])
        self._call_later(self._wait, partial(question.answer, NotAnswered()))
        return question.answer

    def refuse(self, done: Done) -> None:
        """Call ``done`` with a failure, in a later step as :meth:`sync` does."""
        self._defer(partial(done, NotAnswered()))

    def _ask(self) -> None:
        question, self._waiting = Question(self._waiting), []
        self._call_later(self._wait, partial(question.answer, NotAnswered()))
        self._engine.sync(partial(self._take, question))

    def _take(self, question: Question, failure: Failure | None) -> None:
        self._in_order(partial(self._end, question, failure))

    def _end(self, question: Question, failure: Failure | None) -> None:
        if failure is None:
            self._healing.call_when_healed(partial(question.answer, None))
        else:
            question.answer(failure)
