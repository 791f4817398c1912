"""A topic by itself: what it keeps and numbers, when it delivers, which lanes it has, what it gives back in pages."""

from __future__ import annotations

from math import inf
from typing import Any

from pubsub.core.backlog import OutboxOptions
from pubsub.core.clock import Clock
from pubsub.core.counts import MessageCount
from pubsub.core.event import BATCH_BYTES, WEBSOCKET_TEXT, Encoding, StoredEvent, WebSocketText
from pubsub.core.lane import Lane, Subscriber
from pubsub.core.topic import PENDING_BYTES, REMOVED_AT_ONCE, Topic
from pubsub.core.trail import Since
from pubsub.protocol.requests import TopicOptions
from tests.doubles import NoLog, Sink
from tests.harness import messages_in


def make_topic(history: int = 5, *, ring_size: int | None = None, **options: Any) -> Topic:
    size = history if ring_size is None else ring_size
    return Topic("t", "e", TopicOptions(history=history, **options), NoLog(), ring_size=size)


def event(seq: int, *, size: int = 1, expires: float = inf) -> StoredEvent:
    return StoredEvent(seq, b"%d" % seq + b" " * (size - 1), expires)


def fill(topic: Topic, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        topic.add([event(seq)])


def kept(topic: Topic) -> list[int]:
    return [each.seq for each in topic.page(0, 1_000_000, now=0).events]


def lane_for(topic: Topic, encoding: Encoding) -> Lane:
    if (lane := topic.find_lane(encoding, None)) is None:
        topic.add_lane(lane := Lane(topic, encoding, MessageCount()))
    return lane


class Member:
    """A subscriber that is ready; ``written`` has each write as the list of its events."""

    def __init__(self, topic: Topic) -> None:
        self.written: list[list[int]] = []
        self.subscriber = Subscriber(Sink(self._write), OutboxOptions(10, Clock(lambda: 0)))
        lane_for(topic, WEBSOCKET_TEXT).join(self.subscriber, Since(0))

    def _write(self, encoded: bytes) -> None:
        self.written.append(messages_in(encoded))


# What is kept


def test_a_new_topic_has_nothing() -> None:
    topic = make_topic()
    assert (topic.seq, topic.oldest, topic.subscribers) == (0, 1, 0)
    assert kept(topic) == []


def test_it_keeps_the_newest_as_many_as_its_history() -> None:
    topic = make_topic(history=3)
    for last, expected in ((2, [1, 2]), (3, [1, 2, 3]), (4, [2, 3, 4]), (10, [8, 9, 10])):
        fill(topic, topic.seq + 1, last)
        assert (topic.seq, topic.oldest) == (last, expected[0])
        assert kept(topic) == expected


def test_without_history_it_keeps_none_and_counts_all_the_same() -> None:
    topic = make_topic(history=0)
    fill(topic, 1, 4)
    assert (topic.seq, topic.oldest) == (4, 5)
    assert kept(topic) == []


def test_a_restored_topic_continues_where_its_journal_is() -> None:
    topic = make_topic(history=100, ring_size=2)
    topic.restore(seq=50, newest=[event(49), event(50)], expiring=False)
    topic.trim(11, 4000)
    assert (topic.seq, topic.oldest, topic.stored_bytes, topic.expiring) == (50, 11, 4000, False)
    topic.add([event(51)])
    assert (topic.seq, kept(topic)) == (51, [50, 51])


def test_what_a_journal_has_beyond_the_history_is_not_kept() -> None:
    """It deletes old rows later, in groups."""
    topic = make_topic(history=10, ring_size=2)
    topic.restore(seq=50, newest=[event(49), event(50)], expiring=False)
    topic.trim(11, 4000)
    assert topic.oldest == 41


def test_a_time_to_live_makes_a_topic_one_that_expires() -> None:
    assert not make_topic().expiring
    assert make_topic(ttl_sec=5).expiring
    topic = make_topic(ttl_sec=5)
    topic.restore(seq=0, newest=[], expiring=False)
    assert topic.expiring, "its option says so, whatever is stored"
    topic = make_topic()
    topic.restore(seq=1, newest=[event(1, expires=9)], expiring=True)
    assert topic.expiring


# Delivery


def test_an_event_waits_for_the_flush_and_the_first_of_them_says_so() -> None:
    topic = make_topic()
    member = Member(topic)
    assert [topic.add([event(seq)]) for seq in (1, 2, 3)] == [True, False, False]
    assert member.written == []
    topic.flush()
    assert member.written == [[1, 2, 3]], "one write for all of them"
    topic.flush()
    assert len(member.written) == 1
    assert topic.add([event(4)]) is True


def test_without_subscribers_nothing_waits() -> None:
    topic = make_topic()
    assert topic.add([event(1)]) is False
    member = Member(topic)
    topic.flush()
    assert member.written == [], "it came before the subscription"


def test_a_full_batch_is_delivered_at_once() -> None:
    topic = make_topic()
    member = Member(topic)
    half = BATCH_BYTES // 2
    assert topic.add([event(1, size=half)]) is True
    assert topic.add([event(2, size=half)]) is False
    assert member.written == [[1, 2]]
    assert topic.add([event(3)]) is True, "the next one begins anew"


def test_a_list_is_delivered_piece_by_piece_and_what_follows_comes_after_it() -> None:
    topic = make_topic(history=20)
    member = Member(topic)
    half = BATCH_BYTES // 2
    assert topic.add_list([event(seq, size=half) for seq in range(1, 8)]) is True
    assert member.written == []
    assert (topic.seq, kept(topic)) == (7, list(range(1, 8))), "it is kept at once"
    assert topic.flush_piece() is True
    assert member.written == [[1, 2]]
    assert topic.add([event(8, size=half)]) is False, "others wait already"
    assert member.written == [[1, 2]]
    assert [topic.flush_piece() for _ in range(3)] == [True, True, False]
    assert member.written == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert topic.flush_piece() is False
    assert topic.add([event(9)]) is True
    assert topic.flush_piece() is False
    assert member.written[4:] == [[9]]
    topic.add([event(10, size=half)])
    assert topic.add([event(11, size=half)]) is False
    assert member.written[5:] == [[10, 11]], "a full batch is delivered at once, as before the list"


def test_a_flush_delivers_all_of_a_list() -> None:
    """A change of membership must not come between its pieces."""
    topic = make_topic(history=20)
    member = Member(topic)
    topic.add_list([event(seq, size=BATCH_BYTES) for seq in range(1, 6)])
    assert topic.flush_piece() is True
    topic.flush()
    assert member.written == [[1], [2, 3, 4, 5]]
    assert topic.flush_piece() is False


def test_what_waits_for_its_piece_has_a_limit() -> None:
    topic = make_topic(history=200)
    member = Member(topic)
    count = PENDING_BYTES // BATCH_BYTES
    assert topic.add_list([event(seq, size=BATCH_BYTES) for seq in range(1, count + 4)]) is True
    assert member.written == [[1], [2], [3], [4]]
    assert topic.add([event(count + 4, size=BATCH_BYTES)]) is False
    assert member.written == [[1], [2], [3], [4], [5]]


def test_a_list_without_subscribers_waits_for_nothing() -> None:
    topic = make_topic()
    assert topic.add_list([event(seq, size=BATCH_BYTES) for seq in range(1, 4)]) is False
    member = Member(topic)
    assert topic.flush_piece() is False
    assert topic.add_list([]) is False
    assert member.written == []


def test_every_lane_gets_every_batch_in_its_own_encoding() -> None:
    class Upper(WebSocketText):
        def message(self, text: bytes) -> bytes:
            return super().message(text.upper())

    topic = make_topic()
    member = Member(topic)
    others = lane_for(topic, Upper())
    written: list[bytes] = []
    others.join(Subscriber(Sink(written.append), OutboxOptions(10, Clock(lambda: 0))), Since(0))
    assert topic.subscribers == 2
    fill(topic, 1, 2)
    topic.flush()
    assert member.written == [[1, 2]]
    assert [messages_in(each) for each in written] == [[1, 2]]


def test_a_lane_is_made_once_for_an_encoding_and_ends_with_its_last_member() -> None:
    topic = make_topic()
    member = Member(topic)
    lane = lane_for(topic, WEBSOCKET_TEXT)
    assert topic.lanes == (lane,)
    topic.end_empty_lanes()
    assert topic.lanes == (lane,)
    lane.leave(member.subscriber)
    assert topic.subscribers == 0
    topic.end_empty_lanes()
    assert not topic.lanes
    assert topic.add([event(1)]) is False


# Pages


def test_a_page_has_so_many_events_behind_a_place_and_says_how_far_it_looked() -> None:
    topic = make_topic(history=5)
    fill(topic, 1, 8)  # 4 to 8 are kept
    for after, limit, seqs, end in (
        (0, 2, [4, 5], 5),
        (5, 2, [6, 7], 7),
        (7, 2, [8], 8),
        (8, 2, [], 8),
        (99, 2, [], 8),
        (0, 99, [4, 5, 6, 7, 8], 8),
    ):
        page = topic.page(after, limit, now=0)
        assert ([each.seq for each in page.events], page.end) == (seqs, end), (after, limit)


def test_a_page_leaves_out_what_has_expired_and_counts_it_as_looked_at() -> None:
    topic = make_topic(ttl_sec=5)
    for seq, expires in ((1, 10.0), (2, 3.0), (3, 10.0), (4, 3.0)):
        topic.add([event(seq, expires=expires)])
    assert [each.seq for each in topic.page(0, 4, now=2).events] == [1, 2, 3, 4]
    page = topic.page(0, 4, now=3)
    assert ([each.seq for each in page.events], page.end) == ([1, 3], 4), "from that moment on it is not delivered"


def test_a_ring_has_all_that_is_kept_or_only_the_end_of_it() -> None:
    memory = make_topic(history=5)
    fill(memory, 1, 8)
    assert [memory.in_ring(after) for after in (0, 3, 4, 8, 99)] == [True] * 5
    durable = make_topic(history=100, ring_size=2)
    durable.restore(seq=50, newest=[event(49), event(50)], expiring=False)
    durable.trim(11, 4000)
    assert [durable.in_ring(after) for after in (0, 10, 47, 48, 50)] == [False, False, False, True, True]


# Expiry


def test_expiry_removes_the_oldest_that_have_expired_up_to_the_first_that_has_not() -> None:
    topic = make_topic(ttl_sec=5)
    for seq, expires in ((1, 3.0), (2, 3.0), (3, 9.0), (4, 3.0)):
        topic.add([event(seq, expires=expires)])
    topic.remove_expired(now=2)
    assert topic.oldest == 1
    topic.remove_expired(now=3)
    assert topic.oldest == 3
    topic.remove_expired(now=9)
    assert (topic.oldest, len(topic.ring), topic.seq) == (5, 0, 4)


def test_expiry_removes_no_more_at_once_than_its_limit() -> None:
    count = REMOVED_AT_ONCE + 50
    topic = make_topic(history=count, ttl_sec=5)
    for seq in range(1, count + 1):
        topic.add([event(seq, expires=1)])
    topic.remove_expired(now=1)
    assert topic.oldest == REMOVED_AT_ONCE + 1
    topic.remove_expired(now=1)
    assert topic.oldest == count + 1
