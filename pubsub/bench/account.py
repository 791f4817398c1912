"""Counts of received, missing and late messages, and of latencies. It must never connect, wait or read a clock."""

from bisect import bisect_right
from typing import Final

MAX_GAPS: Final = 100
"""Gaps that are kept for each subscriber, to tell late messages from duplicates. Older gaps count as lost."""
STEPS: Final = 64
"""Buckets for each doubling of a latency: a percentile is at most 1.6 % too high."""
_STEP_BITS: Final = STEPS.bit_length()
_BUCKETS: Final = STEPS * 65
"""Up to 2**64 nanoseconds."""


class Account:
    """The messages of one subscriber by ``seq``; ``expected`` is the next one in order."""

    __slots__ = ("_gaps", "_given_up", "delivered", "disordered", "duplicated", "expected")

    def __init__(self) -> None:
        self.expected = 1
        self.delivered = 0  # each message once
        self.duplicated = 0
        self.disordered = 0
        self._gaps: list[range] = []  # in order; none of them empty
        self._given_up = 0  # missing messages in gaps that are no longer kept

    def take(self, count: int) -> None:
        """Count the next ``count`` messages, which came in order."""
        self.expected += count
        self.delivered += count

    def receive(self, seq: int) -> None:
        """Count a message, which may be another than the expected one."""
        if seq >= self.expected:
            if seq > self.expected:
                self._miss(range(self.expected, seq))
            self.expected = seq + 1
            self.delivered += 1
        elif self._fill(seq):
            self.disordered += 1
            self.delivered += 1
        else:
            self.duplicated += 1

    @property
    def missed(self) -> int:
        """The number of messages that did not come although a later one did."""
        return self._given_up + sum(map(len, self._gaps))

    def lost(self, last: int) -> int:
        """Return how many of the messages up to ``last`` did not come."""
        kept = sum(len(range(gap.start, min(gap.stop, last + 1))) for gap in self._gaps)
        return self._given_up + kept + max(0, last + 1 - self.expected)

    def _miss(self, gap: range) -> None:
        self._gaps.append(gap)
        if len(self._gaps) > MAX_GAPS:
            self._given_up += len(self._gaps.pop(0))

    def _fill(self, seq: int) -> bool:
        """Take a late message out of its gap; return False if there is none."""
        at = bisect_right(self._gaps, seq, key=lambda gap: gap.start) - 1
        if at < 0 or seq not in self._gaps[at]:
            return False
        gap = self._gaps[at]
        self._gaps[at : at + 1] = [part for part in (range(gap.start, seq), range(seq + 1, gap.stop)) if part]
        return True


class Latencies:
    """Counts of latencies, in buckets that are wider for higher ones: a run of any length takes the same memory."""

    __slots__ = ("_counts", "most")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.most = 0

    def add(self, nanoseconds: int, count: int) -> None:
        if nanoseconds > self.most:
            self.most = nanoseconds
        shift = nanoseconds.bit_length() - _STEP_BITS
        if shift < 0:
            shift = 0
        self._counts[shift * STEPS + (nanoseconds >> shift)] += count

    def percentile(self, share: float) -> int | None:
        """Return the latency (ns) that ``share`` (0 to 1) of the messages did not exceed; None without messages."""
        left = share * sum(self._counts)
        for bucket, count in enumerate(self._counts):
            left -= count
            if count and left <= 0:
                return min(_upper_bound(bucket), self.most)
        return None


def _upper_bound(bucket: int) -> int:
    shift = max(0, bucket // STEPS - 1)
    return ((bucket - shift * STEPS + 1) << shift) - 1
