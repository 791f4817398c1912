"""Counts that each server has and all of them know: this server's own, as it tells them. No I/O.

A count stands under a group and a name, such as the connections of a client in a topic. Changes are told in numbered
messages, a little later than they happen and together. A server that has missed one asks again, and gets all counts.

Every message has counts as they are when it is sent, not differences. So a copy of all counts that takes turns, with
changes between its parts, is right once its last part has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec
from msgspec import Raw, Struct

from pubsub.cluster.bus import MOST_BYTES, Bus

GATHERED: Final = 0.02  # seconds, after which changes are told together
AT_ONCE: Final = 500  # counts in a message: 2 ms at each server that takes them in
LOOKED_AT: Final = 1000  # names, and groups without counts here, that are looked at in one step: 2 µs each
BYTES_AT_ONCE: Final = MOST_BYTES // 2  # of their names
PACE: Final = 0.005  # seconds between the parts of a copy: 100,000 counts in a second
ASKERS: Final = 0.1  # seconds in which servers that ask again get one copy
END: Final = -1

Groups = dict[str, dict[str, int]]


class Changes(Struct, frozen=True, array_like=True, gc=False, tag="changes"):
    """Counts that have changed; 0 is none any more. ``version``: the number of the message, from 1."""

    version: int
    counts: Groups


class Part(Struct, frozen=True, array_like=True, gc=False, tag="part"):
    """A part of all counts. ``version``: of the changes that were told before it. ``number``: from 0."""

    version: int
    number: int
    last: bool
    counts: Raw  # of Groups: most servers need not look at them


class Again(Struct, frozen=True, array_like=True, gc=False, tag="again"):
    """A request for all counts of a server."""

    server: str


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Changes | Part | Again).decode
decode_groups = msgspec.msgpack.Decoder(Groups).decode


class Owner(Protocol):
    """The part of this server that counts."""

    def count(self, group: str, name: str) -> int:
        """The present count here."""
        ...

    @property
    def groups(self) -> Iterable[str]:
        """All groups with counts here. They may change while one goes through them."""
        ...

    def names_in(self, group: str) -> list[str]:
        """The names in a group with counts here."""
        ...


class OwnCounts:
    """See the module. ``kind``: of the messages. ``is_alone``: nobody hears them. ``version``: of the last one.

    ``told(group, name, count)`` is called for each count that all servers have heard, in the order in which they have
    heard those of all servers.
    """

    def __init__(
        self,
        bus: Bus,
        kind: str,
        owner: Owner,
        *,
        is_alone: Callable[[], bool],
        call_later: Callable[[float, Callable[[], None]], object],
        told: Callable[[str, str, int], None] | None = None,
    ) -> None:
        self.version = 0
        self._told = told
        self._bus = bus
        self._kind = kind
        self._owner = owner
        self._is_alone = is_alone
        self._call_later = call_later
        self._touched: dict[tuple[str, str], None] = {}
        self._copying: Iterator[int] | None = None
        self._asked = False  # since the copying began

    def touch(self, group: str, name: str) -> None:
        """A count may have changed."""
        if not self._touched:
            self._call_later(GATHERED, self._tell)
        self._touched[group, name] = None

    def hear_itself(self, counts: Groups) -> None:
        """All servers have heard a message with these counts."""
        if self._told is not None:
            for group, names in counts.items():
                for name, count in names.items():
                    self._told(group, name, count)

    def copy(self) -> None:
        """Tell all counts: another server has asked."""
        self._asked = True
        if self._copying is None:
            self._begin_to_copy()

    def _tell(self) -> None:
        alone = self._is_alone()  # the next server to come asks for all
        if alone and self._told is None:
            self._touched = {}
            self.version += 1
            return
        batch = Batch()
        for group, name in list(islice(self._touched, AT_ONCE)):
            del self._touched[group, name]
            batch.add(group, name, self._owner.count(group, name))
            if batch.is_full:
                break
        self.version += 1
        if self._touched:
            self._call_later(0, self._tell)
        if alone:
            self.hear_itself(batch.counts)
        else:
            self._bus.tell(self._kind, encode(Changes(self.version, batch.counts)))

    def _begin_to_copy(self) -> None:
        self._copying = self._parts() if self._asked else None
        if self._copying is not None:
            self._call_later(ASKERS, self._copy_part)

    def _copy_part(self) -> None:
        assert self._copying is not None, "made before the first part"
        if next(self._copying, END) is END:
            self._begin_to_copy()
        else:
            self._call_later(PACE, self._copy_part)

    def _parts(self) -> Iterator[int]:
        """Tell all counts, a part in each step."""
        self._asked = False
        number = 0
        for counts in self._all():
            if counts:
                self._tell_part(number, counts, last=False)
                number += 1
            yield number
        self._tell_part(number, {}, last=True)

    def _tell_part(self, number: int, counts: Groups, *, last: bool) -> None:
        self._bus.tell(self._kind, encode(Part(self.version, number, last, Raw(encode(counts)))))

    def _all(self) -> Iterator[Groups]:
        """All counts here, each as it is in its step. Most groups may have none here."""
        batch, looked = Batch(), 0
        for group in self._owner.groups:
            looked += 1
            for name in self._owner.names_in(group):
                looked += 1
                if count := self._owner.count(group, name):
                    batch.add(group, name, count)
                if batch.is_full:
                    yield batch.counts
                    batch, looked = Batch(), 0
            if looked >= LOOKED_AT:
                yield batch.counts
                batch, looked = Batch(), 0
        if batch.counts:
            yield batch.counts


class Batch:
    """The counts of one message."""

    def __init__(self) -> None:
        self.counts: Groups = {}
        self._number = self._size = 0

    def add(self, group: str, name: str, count: int) -> None:
        names = self.counts.get(group)
        if names is None:
            names = self.counts[group] = {}
            self._size += len(group.encode())
        names[name] = count
        self._number += 1
        self._size += len(name.encode())

    @property
    def is_full(self) -> bool:
        return self._number >= AT_ONCE or self._size > BYTES_AT_ONCE
