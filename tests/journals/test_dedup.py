"""Ids for deduplication: their windows, and the work of one search."""

from __future__ import annotations

from pubsub.journals.dedup import FORGOTTEN_AT_ONCE, RecentIds

COUNT = 3 * FORGOTTEN_AT_ONCE


def keys(count: int = COUNT) -> list[bytes]:
    return [number.to_bytes(16) for number in range(count)]


def filled() -> RecentIds:
    seen = RecentIds("t", window=10)
    for seq, key in enumerate(keys(), 1):
        seen.add(key, seq, now=0)
    return seen


def test_one_search_forgets_some_of_many_expired_ids() -> None:
    seen = filled()
    assert seen.find(b"another", 9) is None
    assert len(seen) == COUNT
    for left in (2, 1, 0, 0):
        assert seen.find(b"another", 10) is None
        assert len(seen) == left * FORGOTTEN_AT_ONCE


def test_an_id_has_expired_at_its_end_though_it_is_not_forgotten_yet() -> None:
    seen = filled()
    last = keys()[-1]
    assert seen.find(last, 9.9) == COUNT
    assert seen.find(last, 10) is None
    assert len(seen) > 0


def test_an_id_that_is_added_again_stays_when_its_first_window_is_forgotten() -> None:
    seen = filled()
    last = keys()[-1]
    assert seen.find(last, 10) is None
    seen.add(last, COUNT + 1, now=10)
    for _ in range(5):
        assert seen.find(last, 10) == COUNT + 1
    assert len(seen) == 1
    assert seen.find(last, 20) is None
    assert len(seen) == 0
