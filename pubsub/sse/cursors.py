"""Cursors: the positions of a stream over several topics, behind each id that it has sent. No I/O.

The id of an event is ``token.key.seq``: the stream's own token, the topic's key, and the event's ``seq``. A stream may
be cut off anywhere, so its cursor has the order in which it sent events of different topics: a log of runs.
"""

from __future__ import annotations

import re
import secrets
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from pubsub.core.lane import Write
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.sse.gzip import Gzip

MAX_RUNS: Final = 4096  # in a log, 16 bytes each; then its older half is joined to the beginning
KEPT_SEC: Final = 600.0  # after the end of the stream
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024  # of all cursors whose streams have ended
CURSOR_BYTES: Final = 700  # of a cursor with one topic

_TOKEN_BYTES: Final = 8
_id = re.compile(rf"([0-9a-f]{{{2 * _TOKEN_BYTES}}})(?:\.([0-9a-f]{{1,16}})\.([0-9]{{1,15}}))?").fullmatch

Seqs = Mapping[int, int]  # the last seq by the key of its topic


class Parts:
    """Encoded events of one topic, parted where the token of a stream goes. All streams of a lane get the same events.

    ``key`` and ``seq`` are those of the last event. Without an event there is one piece.
    """

    __slots__ = ("encoded", "key", "pieces", "seq")

    def __init__(self) -> None:
        self.encoded = b""
        self.pieces = [b""]
        self.key = self.seq = 0

    def take(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.pieces = encoded.split(b"\nid: ")
        if len(self.pieces) > 1:
            key, _, seq = self.pieces[-1].partition(b"\n")[0].partition(b".")
            self.key, self.seq = int(key, 16), int(seq)


class KeptCursor(Struct, frozen=True, array_like=True, gc=False):
    """A cursor as another server gets it: its token, and its arrays of 8 bytes for each number."""

    token: str
    keys: bytes
    seqs: bytes
    run_keys: bytes
    run_seqs: bytes
    folded: bool


class Cursor:
    """See the module. ``token`` is the id before the first event. ``parts`` is shared with the other cursors."""

    __slots__ = ("_folded", "_keys", "_mark", "_parts", "_run_keys", "_run_seqs", "_seqs", "ended", "token")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.token = secrets.token_hex(_TOKEN_BYTES)
        self.ended = 0.0
        self._mark = b"\nid: %b." % self.token.encode()
        self._keys = array("q")
        self._seqs = array("q")
        self._run_keys: array[int] | None = None
        self._run_seqs: array[int] | None = None
        self._folded = False

    @classmethod
    def adopt(cls, parts: Parts, kept: KeptCursor) -> Cursor:
        """Make the cursor of a stream that another server had."""
        cursor = cls(parts)
        cursor.token = kept.token
        cursor._keys, cursor._seqs = array("q", kept.keys), array("q", kept.seqs)
        cursor._run_keys, cursor._run_seqs = array("q", kept.run_keys), array("q", kept.run_seqs)
        cursor._folded = kept.folded
        return cursor

    def keep(self) -> KeptCursor:
        run_keys, run_seqs = array("q", self._run_keys or ()), array("q", self._run_seqs or ())
        return KeptCursor(
            self.token,
            self._keys.tobytes(),
            self._seqs.tobytes(),
            run_keys.tobytes(),
            run_seqs.tobytes(),
            self._folded,
        )

    @property
    def size(self) -> int:
        """About so many bytes."""
        runs = 0 if self._run_keys is None else len(self._run_keys)
        return CURSOR_BYTES + 16 * (len(self._keys) + runs)

    def begin(self, key: int, seq: int) -> None:
        """Add a position from which the stream begins: the key of a topic, and the last ``seq`` that is done."""
        self._keys.append(key)
        self._seqs.append(seq)

    def marking(self, write: Write, gzip: Gzip | None = None) -> Write:
        """A ``write`` that puts the token into the ids of encoded events of one topic, and notes the last of them.

        It is a closure because each write passes it: 1 µs for 20 events, and a call more would cost a tenth.
        """
        parts = self._parts
        join: Callable[[Sequence[bytes]], bytes] = self._mark.join if gzip is None else gzip.joining(self._mark)
        write_alone = write if gzip is None else gzip.writing(write)

        def write_marked(encoded: bytes) -> None:
            if parts.encoded is not encoded:
                parts.take(encoded)
            pieces = parts.pieces
            if len(pieces) == 1:
                write_alone(encoded)
                return
            keys, seqs = self._run_keys, self._run_seqs
            if keys and seqs and keys[-1] == parts.key:
                seqs[-1] = parts.seq
            else:
                self._begin_run(parts.key, parts.seq)
            write(join(pieces))

        return write_marked

    def _begin_run(self, key: int, seq: int) -> None:
        if self._run_keys is None or self._run_seqs is None:
            self._run_keys, self._run_seqs = array("q"), array("q")
        if len(self._run_keys) == MAX_RUNS:
            self._fold(self._run_keys, self._run_seqs)
        self._run_keys.append(key)
        self._run_seqs.append(seq)

    def _fold(self, keys: array[int], seqs: array[int]) -> None:
        """Join the older half of the log to the beginning. An id of it is no longer known."""
        half = MAX_RUNS // 2
        first = dict(zip(self._keys, self._seqs, strict=True))
        first.update(zip(keys[:half], seqs[:half], strict=True))
        self._keys, self._seqs = array("q", first), array("q", first.values())
        self._folded = True
        del keys[:half], seqs[:half]

    def positions_at(self, key: int, seq: int) -> dict[int, int] | None:
        """The positions after the event ``seq`` of a topic; None if they are no longer known."""
        found = dict(zip(self._keys, self._seqs, strict=True))
        for run_key, last in zip(self._run_keys or (), self._run_seqs or (), strict=True):
            if run_key == key and found.get(key, 0) < seq <= last:
                found[key] = seq
                return found
            found[run_key] = last
        return None

    def positions_at_start(self) -> dict[int, int] | None:
        """The positions before the first event; None if they are no longer known."""
        return None if self._folded else dict(zip(self._keys, self._seqs, strict=True))


class Cursors:
    """The cursors of all streams, and those of streams that have ended, for KEPT_SEC."""

    def __init__(self, now: Callable[[], float], call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._now = now
        self._call_later = call_later
        self._known: dict[str, Cursor] = {}
        self._ended: dict[Cursor, None] = {}  # the oldest first
        self._ended_bytes = 0
        self._parts = Parts()

    def __len__(self) -> int:
        return len(self._known)

    def begin(self) -> Cursor:
        """Make the cursor of a new stream."""
        cursor = Cursor(self._parts)
        self._known[cursor.token] = cursor
        return cursor

    def end(self, cursor: Cursor) -> None:
        """Keep the cursor of a stream that has ended, for a while. If there are too many, the oldest are dropped."""
        cursor.ended = self._now()
        if not self._ended:
            self._call_later(KEPT_SEC, self._drop_old)
        self._ended[cursor] = None
        self._ended_bytes += cursor.size
        while self._ended_bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._ended)))

    @property
    def ended(self) -> list[Cursor]:
        """Those whose streams have ended, the newest first."""
        return list(reversed(self._ended))

    def adopt(self, kept: KeptCursor) -> None:
        """Keep the cursor of a stream that another server had, as if it had ended here."""
        if kept.token not in self._known:
            cursor = self._known[kept.token] = Cursor.adopt(self._parts, kept)
            self.end(cursor)

    def discard(self, cursor: Cursor) -> None:
        """Drop the cursor of a stream that has not begun."""
        self._known.pop(cursor.token, None)

    def find(self, text: str) -> Seqs | None:
        """The positions behind an id; None if it is no longer known. Raises BadRequest for what was never an id."""
        found = _id(text)
        if found is None:
            raise BadRequest(f"Last-Event-ID: expected the id of an event of this stream, got {shown(text)}")
        token, key, seq = found.groups()
        cursor = self._known.get(token)
        if cursor is None:
            return None
        return cursor.positions_at_start() if key is None else cursor.positions_at(int(key, 16), int(seq))

    def _drop_old(self) -> None:
        oldest = self._now() - KEPT_SEC
        while self._ended and (first := next(iter(self._ended))).ended <= oldest:
            self._drop(first)
        if self._ended:
            self._call_later(next(iter(self._ended)).ended - oldest, self._drop_old)

    def _drop(self, cursor: Cursor) -> None:
        del self._ended[cursor]
        self._known.pop(cursor.token, None)
        self._ended_bytes -= cursor.size
