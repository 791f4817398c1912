"""The judge of the client libraries: all that they publish, are told and hand on, against one Record. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from kinds import FILTERS, predicate_of
from oracle import Broken, Json, Record
from reading import CREATED_AGAIN, Place, Reading, Told

SHOWN = 5  # broken invariants of one run that are shown

Positions = Mapping[str, tuple[str, int]]


class Acked(NamedTuple):
    """A publish that was acknowledged."""

    topic: str
    id: str
    seq: int
    duplicate: bool


@dataclass
class Begun:
    """The beginning of an epoch. ``told``: the highest. ``kept``: one that only the engine can have decided."""

    told: int = 0
    kept: float = inf


class Judge:
    """See the module. ``broken``: what was found. ``outcomes``: of publishes, by the name of the error or ``acked``.

    ``deleted``, ``goes_back``: see Reading.
    """

    def __init__(
        self, deleted: Callable[[str, str], bool] = lambda topic, epoch: False, *, goes_back: bool = False
    ) -> None:
        self._deleted = deleted
        self._goes_back = goes_back
        self.record = Record()
        self.broken: list[str] = []
        self.acked: list[Acked] = []
        self.outcomes: Counter[str] = Counter()
        self.calls = 0  # of publish
        self.readings: dict[str, Reading] = {}
        self._begun: dict[tuple[str, str], Begun] = {}  # by topic and epoch

    def new_reading(self, client: str, name: str, chosen: Json = FILTERS[0]) -> Reading:
        """Begin to judge a subscription of a client."""
        wants = predicate_of(chosen) if chosen else None
        reading = self.readings[client] = Reading(
            self.record, name, wants=wants, deleted=self._deleted, goes_back=self._goes_back
        )
        return reading

    def begin(self, client: str, positions: Positions) -> None:
        self.readings[client].begin(positions)

    def take_event(self, client: str, place: Place, message: Json) -> None:
        self._judge(client, lambda reading: reading.take_event(place, message))

    def take_gap(self, client: str, gap: Told) -> None:
        if gap.reason == CREATED_AGAIN and gap.last is not None:
            self._compare_beginnings(client, gap, gap.last)
        self._judge(client, lambda reading: reading.take_gap(gap))

    def _compare_beginnings(self, client: str, gap: Told, last: int) -> None:
        """Check where an epoch begins for a live subscriber: behind the last message that the engine kept, or that its
        server had got, whichever comes first.
        """
        reading = self.readings[client]
        cursor = reading.cursors.get(gap.topic)
        had = cursor.seq if cursor is not None else 0
        if last > had and reading.takes_all:
            self.broken.append(f"{client}: it had messages up to {had}, got {gap}")
        begun = self._begun.setdefault((gap.topic, gap.epoch), Begun())
        begun.told = max(begun.told, last)
        if last < had:
            begun.kept = min(begun.kept, last)
        if begun.told > begun.kept:
            self.broken.append(f"{client}: another was told that it begins behind {begun}, got {gap}")

    def check_positions(self, client: str, positions: Positions) -> None:
        self._judge(client, lambda reading: reading.check_positions(positions))

    def _judge(self, client: str, step: Callable[[Reading], None]) -> None:
        try:
            step(self.readings[client])
        except Broken as broken:
            self.broken.append(f"{client}: {broken}")

    def acknowledge(self, acked: Acked) -> None:
        self.outcomes["acked"] += 1
        self.acked.append(acked)

    def behind(self, lives: Mapping[str, str]) -> dict[str, list[Place]]:
        """Return the messages that have not come, by client. ``lives``: the epoch of each topic that exists."""
        found = {}
        for client, reading in self.readings.items():
            covered = {topic: epoch for topic, epoch in lives.items() if reading.covers(topic)}
            if missing := reading.missing(covered):
                found[client] = missing
        return found

    def check_kept(self, topic: str, epoch: str, messages: list[Json]) -> None:
        """Compare acknowledged publishes with all messages of a topic that keeps every one from 1 on."""
        ids = [event["message"]["id"] for event in messages]
        for seq, event in enumerate(messages, 1):
            if event["seq"] != seq:
                self.broken.append(f"{topic}: expected seq {seq}, it keeps {event}")
                return
            self.record.note(topic, epoch, seq, event["message"])
        if twice := [each for each, count in Counter(ids).items() if count > 1]:
            self.broken.append(f"{topic}: {len(twice)} messages are there twice, one of them {twice[0]}")
        for acked in self.acked:
            if acked.topic == topic and (acked.seq > len(ids) or ids[acked.seq - 1] != acked.id):
                self.broken.append(f"{acked} is not in its topic")

    @property
    def shown(self) -> str:
        return "; ".join(self.broken[:SHOWN])
