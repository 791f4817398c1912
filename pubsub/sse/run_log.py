"""The order in which a stream sent events of many topics: the positions behind each of its ids. No I/O.

A stream may be cut off anywhere, so the log has the runs of events of one topic, with the last ``seq`` of each.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

MAX_RUNS: Final = 4096  # in a log, 16 bytes each; then its older half is joined to the beginning
LOG_BYTES: Final = 700  # of a log with one topic


class KeptCursor(Struct, frozen=True, array_like=True, gc=False):
    """A log as another server gets it: its token, and its arrays of 8 bytes for each number."""

    token: str
    keys: bytes
    seqs: bytes
    run_keys: bytes
    run_seqs: bytes
    folded: bool


class RunLog:
    """See the module. ``token`` begins all ids of its stream. ``first``: the positions from which the log begins."""

    __slots__ = ("_folded", "_keys", "_seqs", "ended", "run_keys", "run_seqs", "token")

    def __init__(self, token: str, first: Mapping[int, int]) -> None:
        self.token = token
        self.ended = 0.0
        self.run_keys = array("q")
        self.run_seqs = array("q")
        self._keys = array("q", first)
        self._seqs = array("q", first.values())
        self._folded = False

    @classmethod
    def adopt(cls, kept: KeptCursor) -> RunLog:
        """Make the log of a stream that another server had."""
        log = cls(kept.token, {})
        log._keys, log._seqs = array("q", kept.keys), array("q", kept.seqs)
        log.run_keys, log.run_seqs = array("q", kept.run_keys), array("q", kept.run_seqs)
        log._folded = kept.folded
        return log

    def keep(self) -> KeptCursor:
        return KeptCursor(
            self.token,
            self._keys.tobytes(),
            self._seqs.tobytes(),
            self.run_keys.tobytes(),
            self.run_seqs.tobytes(),
            self._folded,
        )

    @property
    def size(self) -> int:
        """About so many bytes."""
        return LOG_BYTES + 16 * (len(self._keys) + len(self.run_keys))

    def begin(self, key: int, seq: int) -> None:
        """Add a position from which the stream begins: the key of a topic, and the last ``seq`` that is done."""
        self._keys.append(key)
        self._seqs.append(seq)

    def begin_run(self, key: int, seq: int) -> None:
        if len(self.run_keys) == MAX_RUNS:
            self._fold()
        self.run_keys.append(key)
        self.run_seqs.append(seq)

    def _fold(self) -> None:
        """Join the older half of the log to the beginning. An id of it is no longer known."""
        half = MAX_RUNS // 2
        first = dict(zip(self._keys, self._seqs, strict=True))
        first.update(zip(self.run_keys[:half], self.run_seqs[:half], strict=True))
        self._keys, self._seqs = array("q", first), array("q", first.values())
        self._folded = True
        del self.run_keys[:half], self.run_seqs[:half]

    def positions_at(self, key: int, seq: int) -> dict[int, int] | None:
        """The positions after the event ``seq`` of a topic; None if they are no longer known."""
        found = dict(zip(self._keys, self._seqs, strict=True))
        for run_key, last in zip(self.run_keys, self.run_seqs, strict=True):
            if run_key == key and found.get(key, 0) < seq <= last:
                found[key] = seq
                return found
            found[run_key] = last
        return None

    def positions_at_start(self) -> dict[int, int] | None:
        """The positions before the first event; None if they are no longer known."""
        return None if self._folded else dict(zip(self._keys, self._seqs, strict=True))
