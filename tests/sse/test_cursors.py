"""Cursors: the positions behind each id, whatever the order of topics; how long they are kept, and how many."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.protocol.errors import BadRequest
from pubsub.sse import cursors, run_log
from pubsub.sse.cursors import KEPT_SEC, MOST_IN_ID, Cursor, Cursors, Seqs
from pubsub.sse.encoding import topic_key
from pubsub.sse.gzip import HEADER, Gzip
from pubsub.sse.run_log import RunLog
from tests.sse.test_encoding import topic

A, B, C, D = (each << 32 for each in (10, 11, 12, 13))  # the keys of four topics
FURTHER = {D + (number << 32): 0 for number in range(MOST_IN_ID + 1)}


def block(key: int, *seqs: int) -> bytes:
    return b"".join(b"data: {}\nid: %x.%d\n\n" % (key, seq) for seq in seqs)


class World:
    """Cursors with a clock that :meth:`pass_time` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.cursors = Cursors(lambda: self.now, lambda delay, work: self._timers.append((self.now + delay, work)))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [each for each in self._timers if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self._timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end

    @property
    def timers(self) -> int:
        return len(self._timers)


def mark(cursor: Cursor, encoded: bytes) -> bytes:
    """The bytes that a stream writes for ``encoded``."""
    written: list[bytes] = []
    cursor.marking(written.append)(encoded)
    return b"".join(written)


def ids(marked: bytes) -> list[str]:
    return [line[4:].decode() for line in marked.split(b"\n") if line.startswith(b"id: ")]


def logged(world: World, seqs: dict[int, int] | None = None) -> Cursor:
    """The cursor of a stream of so many topics that it has a log."""
    cursor = world.cursors.begin()
    for key, seq in {**(seqs or {}), **FURTHER}.items():
        cursor.begin(key, seq)
    return cursor


def log_of(cursor: Cursor) -> RunLog:
    assert cursor.log is not None
    return cursor.log


def without_further(found: Seqs | None) -> dict[int, int] | None:
    return None if found is None else {key: seq for key, seq in found.items() if key not in FURTHER}


def test_positions_stand_before_each_id_and_nothing_else_changes() -> None:
    cursor = World().cursors.begin()
    encoded = b'event: info\ndata: {"id":"id: 1"}\n\n' + block(A, 1, 2)
    assert cursor.start_id == b"-"
    assert mark(cursor, encoded) == encoded.replace(b"\nid: ", b"\nid: -")
    assert mark(cursor, b"event: info\ndata: {}\n\n") == b"event: info\ndata: {}\n\n"
    assert ids(mark(cursor, block(B, 7, 8))) == [f"-{A:x}.2-{B:x}.7", f"-{A:x}.2-{B:x}.8"]
    assert ids(mark(cursor, block(A, 3))) == [f"-{B:x}.8-{A:x}.3"]


def test_a_token_stands_before_each_id_of_a_stream_of_many_topics() -> None:
    cursor = logged(World())
    encoded = b'event: info\ndata: {"id":"id: 1"}\n\n' + block(A, 1, 2)
    token = cursor.start_id
    assert mark(cursor, encoded) == encoded.replace(b"\nid: ", b"\nid: " + token + b".")
    assert len(token) == 16
    assert logged(World()).start_id != token


@pytest.mark.parametrize("begin", [lambda world, seqs: begun(world, seqs), logged], ids=["in each id", "logged"])
def test_an_id_stands_for_the_last_event_of_each_topic_before_it(
    begin: Callable[[World, dict[int, int]], Cursor],
) -> None:
    world = World()
    cursor = begin(world, {A: 7, B: 0})
    start = cursor.start_id.decode()
    marked = b"".join(
        mark(cursor, each) for each in (block(A, 8, 9), block(C, 1), block(A, 10), block(B, 1, 2, 3), block(A, 11))
    )
    assert without_further(world.cursors.find(start)) == {A: 7, B: 0}
    found = [without_further(world.cursors.find(each)) for each in ids(marked)]
    assert found == [
        {A: 8, B: 0},
        {A: 9, B: 0},
        {A: 9, B: 0, C: 1},
        {A: 10, B: 0, C: 1},
        {A: 10, B: 1, C: 1},
        {A: 10, B: 2, C: 1},
        {A: 10, B: 3, C: 1},
        {A: 11, B: 3, C: 1},
    ]


def begun(world: World, seqs: dict[int, int]) -> Cursor:
    cursor = world.cursors.begin()
    for key, seq in seqs.items():
        cursor.begin(key, seq)
    return cursor


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 5), st.integers(0, 2)), max_size=40),
    st.sampled_from([8, 2, 1]),
    st.booleans(),
)
def test_each_id_of_any_stream_stands_for_what_came_before_it(
    runs: list[tuple[int, int, int]], most: int, short: bool
) -> None:
    """Runs of events, and gaps between them; with a log from the first topic, from the third, or without one.

    With a short log, an id is right or unknown.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursors, "MOST_IN_ID", most)
        patch.setattr(run_log, "MAX_RUNS", 4 if short else run_log.MAX_RUNS)
        world, seqs = World(), {A: 3, B: 0}
        cursor = begun(world, seqs)
        expected: dict[str, dict[int, int]] = {}
        for key, count, gap in runs:
            first = seqs.get(key, 0) + gap + 1
            marked = mark(cursor, block(key, *range(first, first + count)))
            for seq, text in zip(range(first, first + count), ids(marked), strict=True):
                seqs = seqs | {key: seq}
                expected[text] = seqs
        for text, positions in expected.items():
            found = world.cursors.find(text)
            assert found == positions or (short and most < 8 and found is None)
        if expected:
            assert world.cursors.find(list(expected)[-1]) is not None, "the newest is always known"


def test_a_ninth_topic_begins_a_log() -> None:
    """It appears after the stream has begun."""
    world, seqs = World(), dict.fromkeys(list(FURTHER)[:MOST_IN_ID], 3)
    cursor = begun(world, seqs)
    before = ids(mark(cursor, block(D, 4)))
    assert cursor.log is None
    after = ids(mark(cursor, block(A, 1)))
    assert cursor.log is not None
    assert [world.cursors.find(each) for each in before + after] == [seqs | {D: 4}, seqs | {D: 4, A: 1}]


@pytest.mark.parametrize("topics", [MOST_IN_ID, MOST_IN_ID + 1])
def test_ids_in_gzip_are_those_of_a_plain_stream(topics: int) -> None:
    world, written, seqs = World(), [HEADER], dict.fromkeys(list(FURTHER)[:topics], 3)
    cursor = world.cursors.begin()
    write = cursor.marking(written.append, Gzip(1))
    for key, seq in seqs.items():
        cursor.begin(key, seq)
    write(block(D, 4, 5))
    plain = zlib.decompressobj(wbits=31).decompress(b"".join(written))
    assert [world.cursors.find(each) for each in ids(plain)] == [seqs | {D: 4}, seqs | {D: 5}]


def test_streams_at_the_same_positions_share_their_bytes() -> None:
    world = World()
    one, same, other = begun(world, {A: 1, B: 1}), begun(world, {A: 1, B: 1}), begun(world, {A: 1, B: 0})
    encoded, written = block(A, 2), list[bytes]()
    for cursor in (one, same, other):
        cursor.marking(written.append)(encoded)
    assert written[0] is written[1]
    assert ids(written[2]) == [f"-{B:x}.0-{A:x}.2"]


def test_a_topic_in_a_new_epoch_takes_the_place_of_its_earlier_life() -> None:
    old, new, else_ = (topic_key(topic(name, epoch)) for name, epoch in (("t", "1"), ("t", "2"), ("u", "1")))
    world = World()
    cursor = begun(world, {old: 5, else_: 1})
    (first,) = ids(mark(cursor, block(new, 1)))
    assert world.cursors.find(first) == {new: 1, else_: 1}


def test_a_log_is_bounded_and_forgets_the_oldest_ids() -> None:
    world = World()
    cursor = logged(world)
    start = cursor.start_id.decode()
    first, *_, last = [ids(mark(cursor, block((A, B)[number % 2], number // 2 + 1)))[0] for number in range(20_000)]
    assert world.cursors.find(first) is None
    assert world.cursors.find(start) is None, "its beginning is forgotten too"
    assert without_further(world.cursors.find(last)) == {A: 10_000, B: 10_000}
    assert log_of(cursor).size < 100_000


def test_a_stream_of_few_topics_leaves_nothing_behind() -> None:
    world = World()
    cursor = begun(world, {A: 1})
    world.cursors.end(cursor)
    assert (len(world.cursors), world.timers) == (0, 0)


def test_a_log_is_kept_for_ten_minutes_after_the_end_of_its_stream() -> None:
    world = World()
    first, second = logged(world), logged(world)
    of_first, of_second = first.start_id.decode(), second.start_id.decode()
    world.pass_time(10 * KEPT_SEC)
    assert world.cursors.find(of_first) == FURTHER, "its stream has not ended"
    world.cursors.end(first)
    world.pass_time(100)
    world.cursors.end(second)
    world.pass_time(KEPT_SEC - 101)
    assert world.cursors.find(of_first) == FURTHER
    world.pass_time(2)
    assert world.cursors.find(of_first) is None
    assert world.cursors.find(of_second) == FURTHER
    world.pass_time(100)
    assert len(world.cursors) == 0
    assert world.timers == 0, "nothing waits any more"
    world.cursors.end(third := logged(world))
    world.pass_time(KEPT_SEC)
    assert world.cursors.find(third.start_id.decode()) is None


def test_the_oldest_are_dropped_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    living, *ended = [logged(world) for _ in range(6)]
    monkeypatch.setattr(cursors, "MAX_KEPT_BYTES", 3 * log_of(living).size)
    for cursor in ended:
        world.cursors.end(cursor)
    known = [world.cursors.find(cursor.start_id.decode()) is not None for cursor in (living, *ended)]
    assert known == [True, False, False, True, True, True]
    world.pass_time(KEPT_SEC)
    assert len(world.cursors) == 1


def test_a_stream_that_does_not_begin_leaves_no_log() -> None:
    world = World()
    world.cursors.discard(logged(world))
    assert len(world.cursors) == 0


@pytest.mark.parametrize(
    "rest",
    ["", ".", ".a", ".a.", ".a.-1", ".a.1.1", ".g.1", ".a.1 ", f".{'a' * 17}.1", f".a.{'1' * 16}", ".A.1", ".a.\u0661"],
)
@pytest.mark.parametrize("token", ["0123456789abcdef", "0123456789abcde", "0123456789ABCDEF", "e:1", ""])
def test_anything_else_is_unknown(token: str, rest: str) -> None:
    """It may be an id of another version of the server."""
    assert World().cursors.find(token + rest) is None


def test_a_text_that_is_longer_than_an_id_can_be_is_refused() -> None:
    cursors = World().cursors
    assert cursors.find("x" * 1024) is None
    with pytest.raises(
        BadRequest, match=r"^Last-Event-ID: expected the id .*, at most 1024 characters, got "
    ) as refusal:
        cursors.find("\x00" * 1025)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["-a", "-a.", "-.1", "-a.1-", "--", "--a.1", "a.1", "-a.1 ", "-g.1", "-A.1", f"-{'a' * 17}.1", f"-a.{'1' * 16}",
     "-a.\u0661", "-a.1" * (MOST_IN_ID + 1)],
)  # fmt: skip
def test_other_positions_are_unknown(text: str) -> None:
    assert World().cursors.find(text) is None


@pytest.mark.parametrize("forged", [f".{A:x}.999", f".{B:x}.1", ".ffffffffffffffff.1", f".{A:x}.0"])
def test_an_id_that_was_never_sent_is_unknown(forged: str) -> None:
    world = World()
    cursor = logged(world, {A: 1})
    mark(cursor, block(A, 2, 3))
    assert world.cursors.find(cursor.start_id.decode() + forged) is None
