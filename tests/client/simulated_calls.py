"""The publishes of simulated clients: each has one outcome, and the outcome is true."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oracle import Broken
from reading import Place

from tests.client.truth import Truth


@dataclass
class Call:
    """One publish. ``links``: those that the client had had when it was called. ``dedup``: the topic remembers ids.

    ``seq`` is None as long as nothing is known. ``refusal``: the name of the error.
    """

    client: str
    topic: str
    message_id: str
    links: int
    dedup: bool
    expect_seq: int | None = None
    cancelled: bool = False
    seq: int | None = None
    duplicate: bool = False
    refusal: str = ""

    @property
    def has_outcome(self) -> bool:
        return self.cancelled or self.seq is not None or bool(self.refusal)

    def succeed(self, truth: Truth, seq: int, *, duplicate: bool) -> None:
        """Check an acknowledgement. Raises Broken."""
        self._end()
        self.seq, self.duplicate = seq, duplicate
        places = self.places(truth)
        if seq not in [each.seq for each in places]:
            raise Broken(f"{self} was acknowledged, but published at {places}")
        if self.expect_seq is not None and seq != self.expect_seq + 1 and not duplicate:
            raise Broken(f"{self} was acknowledged with another seq than it expected")

    def fail(self, truth: Truth, refusal: str, *, uncertain: bool, links: int) -> None:
        """Check a failure. ``uncertain``: the message may be in the topic. ``links``: the number of links by now."""
        self._end()
        self.refusal = refusal
        if not uncertain and links == self.links and self.places(truth):
            raise Broken(f"{self} was refused, but published at {self.places(truth)}")

    def _end(self) -> None:
        if self.seq is not None or self.refusal:
            raise Broken(f"{self} has two outcomes")

    def places(self, truth: Truth) -> list[Place]:
        return [each for each in truth.ids.get(self.message_id, ()) if each.topic == self.topic]

    def check(self, truth: Truth) -> None:
        """Check at the end that it had an outcome, and that a topic that remembers ids has it once in each life."""
        if not self.has_outcome:
            raise Broken(f"{self} has no outcome")
        lives = [each.epoch for each in self.places(truth)]
        if self.dedup and len(lives) != len(set(lives)):
            raise Broken(f"{self} is in the topic twice: {self.places(truth)}")


def check_order(calls: Iterable[Call], truth: Truth) -> None:
    """Check that acknowledged publishes of one client to one topic came there in the order of the calls.

    A message that is sent again may be there twice, so its first place counts for later calls, and its last place for
    earlier ones. One with ``expect_seq`` may be refused at first, and accepted after later ones.
    """
    latest: dict[tuple[str, str], int] = {}  # the largest first place so far, in each life of a topic
    for call in calls:
        if call.seq is None or call.cancelled or call.expect_seq is not None:
            continue
        for (topic, epoch), seqs in _by_life(call.places(truth)).items():
            before = latest.get((topic, epoch), 0)
            if before > seqs[-1]:
                raise Broken(f"{call} is at {seqs} of {topic} {epoch}, an earlier publish at {before}")
            latest[topic, epoch] = max(before, seqs[0])


def _by_life(places: Iterable[Place]) -> dict[tuple[str, str], list[int]]:
    """The numbers of a message in each life of its topic, in order."""
    found: dict[tuple[str, str], list[int]] = {}
    for place in places:
        found.setdefault((place.topic, place.epoch), []).append(place.seq)
    return found
