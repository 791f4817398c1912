"""Rows, and the lists of them that go in one request."""

from __future__ import annotations

import pytest

from pubsub.outbox.rows import LIST_BYTES, Row, by_topic, lists_of
from pubsub.protocol.replies import encode
from tests.harness import new_id


def row(number: int, topic: str = "orders", *, size: int = 1, ttl_sec: float | None = None) -> Row:
    return Row(number, topic, new_id(), b"1" * size, ttl_sec)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([], 10, []),
        ([1] * 5, 2, [2, 2, 1]),
        ([1] * 4, 2, [2, 2]),
        ([LIST_BYTES, 1, 1], 10, [1, 2]),
        ([1, LIST_BYTES * 3, 1], 10, [1, 1, 1]),
        ([LIST_BYTES // 2, LIST_BYTES // 2, 1], 10, [2, 1]),
    ],
)
def test_lists_are_within_both_limits(sizes: list[int], most: int, expected: list[int]) -> None:
    rows = [row(number, size=size) for number, size in enumerate(sizes)]
    lists = list(lists_of(rows, most))
    assert [len(each) for each in lists] == expected
    assert [each for part in lists for each in part] == rows


def test_rows_of_a_topic_keep_their_order() -> None:
    rows = [row(number, "ab"[number % 2]) for number in range(6)]
    assert by_topic(rows) == {"a": rows[::2], "b": rows[1::2]}


def test_message_has_the_time_that_is_left() -> None:
    assert b"ttl_sec" not in encode(row(1).as_message())
    assert b'"ttl_sec":2.5' in encode(row(1, ttl_sec=2.5).as_message())
    assert [row(1, ttl_sec=left).has_expired for left in (None, 0.1, 0, -1)] == [False, False, True, True]
