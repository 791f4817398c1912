"""A search from the newest event of a topic backwards for the last events that match a filter. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pubsub.core.catchup import filtered_page
from pubsub.core.clock import Clock
from pubsub.core.event import StoredEvent
from pubsub.core.topic import Topic
from pubsub.filters.filters import Matcher, Subject
from pubsub.protocol.errors import Failure, TopicNotFound

Bound = Callable[[Callable[[Any], None]], Callable[[Any], None]]


class BackwardSearch:
    """Find the ``seq`` before the last ``count`` events that match; 0 if fewer are kept.

    It goes back window by window, and forward within one, as a log is read. Each window takes a turn.
    """

    def __init__(
        self,
        topic: Topic,
        count: int,
        matcher: Matcher,
        clock: Clock,
        take_turn: Callable[[Callable[[], None]], None],
        is_current: Callable[[Topic], bool],
        bound: Bound,
    ) -> None:
        self._topic = topic
        self._missing = count
        self._matcher = matcher
        self._clock = clock
        self._take_turn = take_turn
        self._is_current = is_current
        self._bound = bound
        self._until = topic.seq  # the last seq of the present window
        self._matching: list[int] = []  # seqs within the window

    def begin(self, answer: Callable[[int | Failure], None]) -> None:
        self._answer = answer
        self._read_window()

    def _read_window(self) -> None:
        oldest = self._topic.oldest
        if self._until < oldest:
            self._answer(0)
        else:
            self._after = max(oldest - 1, self._until - filtered_page(self._matcher))
            self._read(self._after)

    def _read(self, after: int) -> None:
        topic = self._topic
        if not self._is_current(topic):
            self._answer(TopicNotFound(topic.name))
        elif topic.in_ring(after):
            page = topic.page(after, self._until - after, self._clock.monotonic())
            self._compare([event for event in page.events if event.seq <= self._until], self._until)
        else:
            topic.log.read(after, self._until, self._until - after, self._bound(self._take))

    def _take(self, page: Sequence[StoredEvent] | Failure) -> None:
        """Take a page of the log. It may end before the window does; an empty one has nothing more of it."""
        if isinstance(page, Failure):
            self._answer(page)
        else:
            self._compare(page, page[-1].seq if page else self._until)

    def _compare(self, events: Sequence[StoredEvent], end: int) -> None:
        self._matching += [event.seq for event in events if self._matcher.matches(Subject(event.text))]
        if end < self._until:
            self._take_turn(partial(self._read, end))
        elif len(self._matching) >= self._missing:
            self._answer(self._matching[-self._missing] - 1)
        else:
            self._missing -= len(self._matching)
            self._until, self._matching = self._after, []
            self._take_turn(self._read_window)
