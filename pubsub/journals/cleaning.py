"""Deletion of durable events, in slices: a publish may have to wait for one slice. Only the writing thread uses it."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from pubsub.journals.state import State, next_clean_up
from pubsub.journals.store import Store

TRIM_LEAST: Final = 64  # fewer rows are not worth a deletion
TRIM_ROWS: Final = 1000  # rows deleted in one transaction: about 5 ms
DELETED_AT_ONCE: Final = 100  # deleted topics in one transaction: about 2 ms


def trim(store: Store, number: int, state: State, end: int) -> None:
    """Delete a topic's events before ``end``."""
    state.size -= store.trim(number, state.first, end)
    state.first = end


def trim_history(store: Store, number: int, state: State) -> None:
    """Delete events beyond a topic's history, in slices, as fast as events are added."""
    excess = state.seq - state.first + 1 - state.history
    if excess > min(TRIM_ROWS, max(TRIM_LEAST, state.history // 8)):
        trim(store, number, state, state.first + min(excess, 2 * TRIM_ROWS))


def delete_expired(store: Store, number: int, state: State, now: float) -> int:
    """Delete some expired events of a topic; returns their number."""
    if state.options.ttl_sec is None:
        return 0
    alive = min(store.first_alive(number, state.first, TRIM_ROWS, now), state.seq + 1)
    if deleted := alive - state.first:
        trim(store, number, state, alive)
    return deleted


class Cleaner:
    """Finds the rows that no topic keeps. ``purged``: topics that may have rows before their first event."""

    def __init__(self) -> None:
        self.purged: set[int] = set()

    def clean(self, store: Store, states: Mapping[int, State], touched: set[int], now: float) -> bool:
        """Delete some rows, and add the topics that changed to ``touched``. Returns True if there may be more."""
        return (
            self._clean_deleted(store)
            | self._clean_purged(store, states)
            | self._clean_expired(store, states, touched, now)
        )

    def _clean_deleted(self, store: Store) -> bool:
        """Delete some events and ids of deleted topics, and the topics that have none left."""
        room = TRIM_ROWS
        deleted = store.deleted(DELETED_AT_ONCE)
        for number in deleted:
            room -= store.delete_events(number, room)
            room -= store.forget_seen(number, inf, room)
            if room == 0:
                break
            store.forget(number)
        return bool(deleted)

    def _clean_purged(self, store: Store, states: Mapping[int, State]) -> bool:
        """Delete some purged events of a topic."""
        for number in sorted(self.purged & states.keys()):
            lowest, first = store.lowest(number), states[number].first
            if lowest is not None and lowest < first:
                store.trim(number, lowest, min(first, lowest + TRIM_ROWS))
                return True
        self.purged.clear()  # the rows of a topic that is deleted meanwhile are found as such
        return False

    def _clean_expired(self, store: Store, states: Mapping[int, State], touched: set[int], now: float) -> bool:
        """Delete some expired events and ids of the topics that are due."""
        more = False
        for number, state in states.items():
            if state.clean_up_at <= now:
                forgotten = 0 if state.seen is None else store.forget_seen(number, now, TRIM_ROWS)
                if deleted := delete_expired(store, number, state, now):
                    touched.add(number)
                has_more = max(forgotten, deleted) == TRIM_ROWS
                state.clean_up_at = now if has_more else next_clean_up(state.options, now)
                more |= has_more
        return more
