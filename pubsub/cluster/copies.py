"""The counts of the other servers, as this one has heard of them. No I/O.

The version of each sign of life shows if changes were lost. Then the server asks for all counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final, Protocol

from pubsub.cluster.counts import Again, Changes, Groups, Part, decode_groups, encode

REMOVED: Final = 500  # counts that end in one turn, 4 µs each
PATIENCE: Final = 2.0  # seconds to wait for counts that are on their way


class Listener(Protocol):
    """The part of this server that needs the counts of the others."""

    def change(self, group: str, name: str, more: int, *, dead: bool) -> None:
        """The count of another server has grown by ``more``, or shrunk. ``dead``: the server ended some time ago."""
        ...


class Copy:
    """The counts of one server. ``version``: of the last change; None if one was lost.

    ``stale``: counts that are not yet seen in the copy that is coming, or that end now. ``part``: the next one to come;
    None if none is expected. ``since``: the last time when something was asked for, or came.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.counts: Groups = {}
        self.stale: Groups = {}
        self.part: int | None = None
        self.since = float("-inf")

    @property
    def is_complete(self) -> bool:
        return self.version is not None and self.part is None

    def set(self, group: str, name: str, count: int) -> int:
        """Set a count; returns by how much it has grown."""
        before = self._take(self.stale, group, name) or self._take(self.counts, group, name)
        if count:
            self.counts.setdefault(group, {})[name] = count
        return count - before

    def make_stale(self) -> None:
        """All counts have to be told again, or end. Most often this is one step for all of them."""
        counts, self.counts = self.counts, {}
        if len(counts) > len(self.stale):
            counts, self.stale = self.stale, counts
        for group, names in counts.items():
            self.stale.setdefault(group, {}).update(names)

    def take_stale(self, limit: int) -> list[tuple[str, str, int]]:
        """Remove some of the stale counts."""
        every = ((group, name) for group, names in self.stale.items() for name in names)
        return [(group, name, self._take(self.stale, group, name)) for group, name in list(islice(every, limit))]

    def forget(self, group: str) -> None:
        self.counts.pop(group, None)
        self.stale.pop(group, None)

    def of(self, group: str) -> Iterator[tuple[str, int]]:
        return chain(self.counts.get(group, {}).items(), self.stale.get(group, {}).items())

    @staticmethod
    def _take(groups: Groups, group: str, name: str) -> int:
        names = groups.get(group)
        if names is None:
            return 0
        count = names.pop(name, 0)
        if not names:
            del groups[group]
        return count


class Copies:
    """See the module. ``tell`` sends a message of this kind. ``now`` is monotonic, in seconds.

    ``take_turn(work)`` calls ``work`` in a later tick.
    """

    def __init__(
        self,
        listener: Listener,
        tell: Callable[[bytes], None],
        now: Callable[[], float],
        take_turn: Callable[[Callable[[], None]], None],
    ) -> None:
        self._listener = listener
        self._tell = tell
        self._now = now
        self._take_turn = take_turn
        self._copies: dict[str, Copy] = {}
        self._leaving: list[Copy] = []  # of servers that have ended

    @property
    def are_complete(self) -> bool:
        return all(copy.is_complete for copy in self._copies.values())

    def of(self, group: str) -> Iterator[tuple[str, int]]:
        """The names in a group, each with its count at one of the servers."""
        return chain.from_iterable(copy.of(group) for copy in [*self._copies.values(), *self._leaving])

    def forget(self, group: str) -> None:
        """A group has ended everywhere. The listener knows it."""
        for copy in [*self._copies.values(), *self._leaving]:
            copy.forget(group)

    def heed(self, server: str, version: int) -> None:
        """A server has told its changes up to a version. Counts that did not come are asked for again."""
        copy = self._copies.get(server)
        if copy is None:
            copy = self._copies[server] = Copy()
            if not version:
                copy.version = 0
        if copy.version != version or copy.part is not None:
            self._ask(server, copy)

    def lose(self, server: str, *, dead: bool) -> None:
        """A server has ended, or is ``dead`` for some time: its counts end in turns."""
        if (copy := self._copies.pop(server, None)) is not None:
            copy.make_stale()
            self._leaving.append(copy)
            self._remove_some(copy, dead=dead, gone=True)

    def change(self, server: str, told: Changes) -> None:
        copy = self._copies.get(server)
        if copy is None or (copy.version is not None and told.version <= copy.version):
            return
        self._set_all(copy, told.counts)
        if copy.version is not None and told.version != copy.version + 1:
            copy.version = copy.part = None
            self._ask(server, copy)
        elif copy.version is not None:
            copy.version = told.version

    def take(self, server: str, part: Part) -> None:
        """Take a part of all counts of a server, unless all have come already."""
        copy = self._copies.get(server)
        if copy is None or (copy.is_complete and copy.version == part.version):
            return
        if part.number == 0:
            copy.make_stale()
            copy.version, copy.part = part.version, 0
        if copy.part != part.number or copy.version != part.version:
            copy.version = copy.part = None
            return
        copy.part += 1
        copy.since = self._now()
        self._set_all(copy, decode_groups(part.counts))
        if part.last:
            copy.part = None
            self._remove_some(copy, dead=False, gone=False)

    def _set_all(self, copy: Copy, counts: Groups) -> None:
        for group, names in counts.items():
            for name, count in names.items():
                if more := copy.set(group, name, count):
                    self._listener.change(group, name, more, dead=False)

    def _remove_some(self, copy: Copy, *, dead: bool, gone: bool) -> None:
        if not gone and not copy.is_complete:
            return  # all counts come once more
        for group, name, count in copy.take_stale(REMOVED):
            self._listener.change(group, name, -count, dead=dead)
        if copy.stale:
            self._take_turn(lambda: self._remove_some(copy, dead=dead, gone=gone))
        elif gone:
            self._leaving.remove(copy)

    def _ask(self, server: str, copy: Copy) -> None:
        if self._now() - copy.since >= PATIENCE:
            copy.since = self._now()
            self._tell(encode(Again(server)))
