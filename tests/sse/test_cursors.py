"""Cursors: the positions behind each id, whatever the order of topics; how long they are kept, and how many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.protocol.errors import BadRequest
from pubsub.sse import cursors
from pubsub.sse.cursors import KEPT_SEC, MAX_RUNS, Cursor, Cursors, Parts

A, B, C = 10, 11, 12


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


def test_a_token_stands_before_each_id_and_nothing_else_changes() -> None:
    cursor = Cursor(Parts())
    encoded = b'event: info\ndata: {"id":"id: 1"}\n\n' + block(A, 1, 2)
    token = cursor.token.encode()
    assert mark(cursor, encoded) == encoded.replace(b"\nid: a", b"\nid: " + token + b".a")
    assert mark(cursor, b"event: info\ndata: {}\n\n") == b"event: info\ndata: {}\n\n"
    assert len(cursor.token) == 16
    assert Cursor(Parts()).token != cursor.token


def test_an_id_stands_for_the_last_event_of_each_topic_before_it() -> None:
    world = World()
    cursor = world.cursors.begin()
    cursor.begin(A, 7)
    cursor.begin(B, 0)
    marked = b"".join(
        mark(cursor, each) for each in (block(A, 8, 9), block(C, 1), block(A, 10), block(B, 1, 2, 3), block(A, 11))
    )
    assert world.cursors.find(cursor.token) == {A: 7, B: 0}
    found = [world.cursors.find(each) for each in ids(marked)]
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


@given(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 5), st.integers(0, 2)), max_size=40), st.booleans()
)
def test_each_id_of_any_stream_stands_for_what_came_before_it(runs: list[tuple[int, int, int]], short: bool) -> None:
    """Runs of events, and gaps between them. With a short log, an id is right or unknown."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursors, "MAX_RUNS", 4 if short else MAX_RUNS)
        cursor, seqs = Cursor(Parts()), {A: 3, B: 0}
        for key, seq in seqs.items():
            cursor.begin(key, seq)
        expected: dict[str, dict[int, int]] = {}
        for key, count, gap in runs:
            first = seqs.get(key, 0) + gap + 1
            marked = mark(cursor, block(key, *range(first, first + count)))
            for seq, text in zip(range(first, first + count), ids(marked), strict=True):
                seqs = seqs | {key: seq}
                expected[text] = seqs
        for text, positions in expected.items():
            _, key_text, seq_text = text.split(".")
            found = cursor.positions_at(int(key_text, 16), int(seq_text))
            assert found == positions or (short and found is None)
        if expected:
            last = list(expected)[-1].split(".")
            assert cursor.positions_at(int(last[1], 16), int(last[2])) is not None, "the newest is always known"


def test_a_log_is_bounded_and_forgets_the_oldest_ids() -> None:
    world = World()
    cursor = world.cursors.begin()
    first, *_, last = [ids(mark(cursor, block((A, B)[number % 2], number // 2 + 1)))[0] for number in range(20_000)]
    assert world.cursors.find(first) is None
    assert world.cursors.find(cursor.token) is None, "its beginning is forgotten too"
    assert world.cursors.find(last) == {A: 10_000, B: 10_000}
    assert cursor.size < 100_000


def test_an_idle_cursor_is_small() -> None:
    cursor = Cursor(Parts())
    cursor.begin(A, 1)
    assert cursor.size < 1000


def test_a_cursor_is_kept_for_ten_minutes_after_the_end_of_its_stream() -> None:
    world = World()
    first, second = world.cursors.begin(), world.cursors.begin()
    world.pass_time(10 * KEPT_SEC)
    assert world.cursors.find(first.token) == {}, "its stream has not ended"
    world.cursors.end(first)
    world.pass_time(100)
    world.cursors.end(second)
    world.pass_time(KEPT_SEC - 101)
    assert world.cursors.find(first.token) == {}
    world.pass_time(2)
    assert world.cursors.find(first.token) is None
    assert world.cursors.find(second.token) == {}
    world.pass_time(100)
    assert len(world.cursors) == 0
    assert world.timers == 0, "nothing waits any more"
    world.cursors.end(third := world.cursors.begin())
    world.pass_time(KEPT_SEC)
    assert world.cursors.find(third.token) is None


def test_the_oldest_are_dropped_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MAX_KEPT_BYTES", 3 * Cursor(Parts()).size)
    world = World()
    living, *ended = [world.cursors.begin() for _ in range(6)]
    for cursor in ended:
        world.cursors.end(cursor)
    known = [world.cursors.find(cursor.token) is not None for cursor in (living, *ended)]
    assert known == [True, False, False, True, True, True]
    world.pass_time(KEPT_SEC)
    assert len(world.cursors) == 1


def test_a_stream_that_does_not_begin_leaves_no_cursor() -> None:
    world = World()
    world.cursors.discard(world.cursors.begin())
    assert len(world.cursors) == 0


@pytest.mark.parametrize(
    "rest",
    ["", ".", ".a", ".a.", ".a.-1", ".a.1.1", ".g.1", ".a.1 ", f".{'a' * 17}.1", f".a.{'1' * 16}", ".A.1", ".a.\u0661"],
)
@pytest.mark.parametrize("token", ["0123456789abcdef", "0123456789abcde", "0123456789ABCDEF", "e:1", ""])
def test_anything_else_is_no_id(token: str, rest: str) -> None:
    world = World()
    if token == "0123456789abcdef" and not rest:
        assert world.cursors.find(token) is None, "it may have been one"
        return
    with pytest.raises(
        BadRequest, match=r"^Last-Event-ID: expected the id of an event of this stream, got "
    ) as refusal:
        world.cursors.find(token + rest)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("forged", [".a.999", ".b.1", ".ffffffffffffffff.1", ".a.0"])
def test_an_id_that_was_never_sent_is_unknown(forged: str) -> None:
    world = World()
    cursor = world.cursors.begin()
    cursor.begin(A, 1)
    mark(cursor, block(A, 2, 3))
    assert world.cursors.find(cursor.token + forged) is None
