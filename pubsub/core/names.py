"""Names in their order, for lists that are read page by page. No I/O."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

PIECE: Final = 1000  # names; one list of all would move up to 1 MB for each new name


class SortedNames:
    """Different names, sorted. One of 100,000 is added, removed or found in 1 to 2 µs."""

    __slots__ = ("_lasts", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[list[str]] = []  # none is empty
        self._lasts: list[str] = []  # the last name of each piece

    def add(self, name: str) -> None:
        """Add a name that is not among them."""
        if not self._pieces:
            self._pieces.append([])
            self._lasts.append(name)
        at = min(bisect_left(self._lasts, name), len(self._pieces) - 1)
        piece = self._pieces[at]
        insort(piece, name)
        self._lasts[at] = piece[-1]
        if len(piece) > PIECE:
            self._split(at)

    def remove(self, name: str) -> None:
        """Remove a name that is among them."""
        at = bisect_left(self._lasts, name)
        piece = self._pieces[at]
        del piece[bisect_left(piece, name)]
        if piece:
            self._lasts[at] = piece[-1]
        else:
            del self._pieces[at], self._lasts[at]

    def starting_at(self, first: str, limit: int) -> list[str]:
        """The first ``limit`` names that are not below ``first``."""
        at = bisect_left(self._lasts, first)
        if at == len(self._pieces):
            return []
        start = bisect_left(self._pieces[at], first)
        found = self._pieces[at][start : start + limit]
        while len(found) < limit and (at := at + 1) < len(self._pieces):
            found += self._pieces[at][: limit - len(found)]
        return found

    def _split(self, at: int) -> None:
        piece = self._pieces[at]
        half = len(piece) // 2
        self._pieces[at : at + 1] = [piece[:half], piece[half:]]
        self._lasts.insert(at, piece[half - 1])
