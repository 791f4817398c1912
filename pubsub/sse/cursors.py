"""Cursors: the positions of a stream over several topics, behind each id that it has sent. No I/O.

The id of an event ends with the topic's key and the event's ``seq``. Before them stand the positions in all other
topics, so any server knows where the stream was, whatever has become of the one that sent it. A stream of many topics
has the token of a log (``run_log``) there instead, which its server keeps.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pubsub.core.lane import Write
from pubsub.protocol.errors import BadRequest
from pubsub.protocol.mistakes import shown
from pubsub.sse.encoding import name_part
from pubsub.sse.gzip import Gzip, stored
from pubsub.sse.run_log import KeptCursor, RunLog

MAX_ID_LENGTH: Final = 1024
MOST_IN_ID: Final = 8  # topics whose positions are in each id, 20 to 30 bytes for each
KEPT_SEC: Final = 600.0  # after the end of the stream
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024  # of all logs whose streams have ended

_TOKEN_BYTES: Final = 8
_position = r"([0-9a-f]{1,16})\.([0-9]{1,15})"
_logged_id = re.compile(rf"([0-9a-f]{{{2 * _TOKEN_BYTES}}})(?:\.{_position})?").fullmatch
_whole_id = re.compile(rf"-|(?:-{_position}){{1,{MOST_IN_ID}}}").fullmatch
_positions = re.compile(_position).findall

Seqs = Mapping[int, int]  # the last seq by the key of its topic


class Parts:
    """Encoded events of one topic, parted where the mark of a stream goes. All streams of a lane get the same events.

    ``key`` and ``seq`` are those of the last event. Without an event there is one piece.
    """

    __slots__ = ("_joined", "_mark", "encoded", "key", "pieces", "seq")

    def __init__(self) -> None:
        self.encoded = b""
        self.pieces = [b""]
        self.key = self.seq = 0
        self._mark = self._joined = b""

    def take(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.pieces = encoded.split(b"\nid: ")
        self._mark = b""
        if len(self.pieces) > 1:
            key, _, seq = self.pieces[-1].partition(b"\n")[0].partition(b".")
            self.key, self.seq = int(key, 16), int(seq)

    def join(self, mark: bytes, pieces: Sequence[bytes]) -> bytes:
        """Streams that are at the same positions get the same bytes."""
        if mark != self._mark:
            self._joined = mark.join(pieces)
            self._mark = mark
        return self._joined


class Cursor:
    """See the module. ``begin_log`` makes the log of a stream that has more topics than an id may.

    ``parts`` is shared with the other cursors. ``log`` is None as long as all positions are in each id.
    """

    __slots__ = ("_begin_log", "_key", "_mark", "_parts", "_seal", "_seq", "_seqs", "log")

    def __init__(self, parts: Parts, begin_log: Callable[[Seqs], RunLog]) -> None:
        self.log: RunLog | None = None
        self._parts = parts
        self._begin_log = begin_log
        self._seqs: dict[int, int] = {}  # without that of the last event
        self._key = -1  # of the topic of the last event; its position is added when another one has its turn
        self._seq = 0
        self._mark = b""
        self._seal: Callable[[bytes], bytes] = bytes

    def begin(self, key: int, seq: int) -> None:
        """Add a position from which the stream begins: the key of a topic, and the last ``seq`` that is done."""
        if self.log is not None:
            self.log.begin(key, seq)
            return
        self._seqs[key] = seq
        if len(self._seqs) > MOST_IN_ID:
            self._log_from_now()

    @property
    def start_id(self) -> bytes:
        """The id before the first event."""
        return self.log.token.encode() if self.log is not None else encode_positions(self._seqs) or b"-"

    def marking(self, write: Write, gzip: Gzip | None = None) -> Write:
        """A ``write`` that puts the mark into the ids of encoded events of one topic, and notes the last of them.

        It is a closure because each write passes it: 1 µs for 20 events, and a call more would cost a tenth.
        """
        parts = self._parts
        join, write_alone = (parts.join, write) if gzip is None else (gzip.join, gzip.writing(write))
        self._seal = bytes if gzip is None else stored

        def write_marked(encoded: bytes) -> None:
            if parts.encoded is not encoded:
                parts.take(encoded)
            pieces = parts.pieces
            if len(pieces) == 1:
                write_alone(encoded)
                return
            if self._key != parts.key:
                self._turn_to(parts.key)
            self._seq = parts.seq
            if self.log is not None:
                self.log.run_seqs[-1] = parts.seq
            write(join(self._mark, pieces))

        return write_marked

    def _turn_to(self, key: int) -> None:
        """Note the position in the topic before: the next events are of another one."""
        before, self._key = self._key, key
        if self.log is None:
            if before >= 0:
                self._seqs[before] = self._seq
            if self._seqs.pop(key, None) is None:
                self._add(key)
        if self.log is None:
            self._mark = self._seal(b"\nid: %b-" % encode_positions(self._seqs))
        else:
            self.log.begin_run(key, 0)

    def _add(self, key: int) -> None:
        """Add a topic that has appeared since the stream began, or has another epoch."""
        for each in self._seqs:
            if name_part(each) == name_part(key):
                del self._seqs[each]
                return
        if len(self._seqs) == MOST_IN_ID:
            self._log_from_now()

    def _log_from_now(self) -> None:
        self.log = self._begin_log(self._seqs)
        self._seqs = {}
        self._mark = self._seal(b"\nid: %b." % self.log.token.encode())


def encode_positions(seqs: Seqs) -> bytes:
    return b"".join([b"-%x.%d" % each for each in seqs.items()])


class Cursors:
    """The logs of all streams that have one, and those of streams that have ended, for KEPT_SEC."""

    def __init__(self, now: Callable[[], float], call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._now = now
        self._call_later = call_later
        self._known: dict[str, RunLog] = {}
        self._ended: dict[RunLog, None] = {}  # the oldest first
        self._ended_bytes = 0
        self._parts = Parts()

    def __len__(self) -> int:
        return len(self._known)

    def begin(self) -> Cursor:
        """Make the cursor of a new stream."""
        return Cursor(self._parts, self._begin_log)

    def _begin_log(self, first: Seqs) -> RunLog:
        log = RunLog(secrets.token_hex(_TOKEN_BYTES), first)
        self._known[log.token] = log
        return log

    def end(self, cursor: Cursor) -> None:
        """Keep the log of a stream that has ended, for a while. If there are too many, the oldest are dropped."""
        if cursor.log is not None:
            self._keep(cursor.log)

    def _keep(self, log: RunLog) -> None:
        log.ended = self._now()
        if not self._ended:
            self._call_later(KEPT_SEC, self._drop_old)
        self._ended[log] = None
        self._ended_bytes += log.size
        while self._ended_bytes > MAX_KEPT_BYTES:
            self._drop(next(iter(self._ended)))

    @property
    def ended(self) -> list[RunLog]:
        """Those whose streams have ended, the newest first."""
        return list(reversed(self._ended))

    def adopt(self, kept: KeptCursor) -> None:
        """Keep the log of a stream that another server had, as if it had ended here."""
        if kept.token not in self._known:
            log = self._known[kept.token] = RunLog.adopt(kept)
            self._keep(log)

    def discard(self, cursor: Cursor) -> None:
        """Drop the cursor of a stream that has not begun."""
        if cursor.log is not None:
            self._known.pop(cursor.log.token, None)

    def find(self, text: str) -> Seqs | None:
        """The positions behind an id; None if it is not known. Raises BadRequest for one that is too long.

        Another version of the server may have sent it, so what looks strange is unknown, and no mistake: an EventSource
        would give up.
        """
        if len(text) > MAX_ID_LENGTH:
            raise BadRequest(
                f"Last-Event-ID: expected the id of an event of this stream, at most {MAX_ID_LENGTH} characters, "
                f"got {shown(text)}"
            )
        if _whole_id(text):
            return {int(key, 16): int(seq) for key, seq in _positions(text)}
        found = _logged_id(text)
        if found is None:
            return None
        token, key, seq = found.groups()
        log = self._known.get(token)
        if log is None:
            return None
        return log.positions_at_start() if key is None else log.positions_at(int(key, 16), int(seq))

    def _drop_old(self) -> None:
        oldest = self._now() - KEPT_SEC
        while self._ended and (first := next(iter(self._ended))).ended <= oldest:
            self._drop(first)
        if self._ended:
            self._call_later(next(iter(self._ended)).ended - oldest, self._drop_old)

    def _drop(self, log: RunLog) -> None:
        del self._ended[log]
        self._known.pop(log.token, None)
        self._ended_bytes -= log.size
