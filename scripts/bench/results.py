"""The results of a benchmark run: samples, medians and spread, also as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from cells import Cell
from sampling import DISTURBED_ABOVE, Sample

Place = tuple[str, str]
"""The names of a cell and of a peer."""


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float


@dataclass(slots=True)
class Results:
    """The samples and failures of a run. Cells and peers (name and title) stand in the requested order."""

    about: Mapping[str, str]
    cells: Sequence[Cell]
    peers: dict[str, str]
    missing: dict[str, str]
    samples: dict[Place, list[Sample]] = field(default_factory=dict)
    failures: dict[Place, list[str]] = field(default_factory=dict)

    def add(self, place: Place, sample: Sample) -> None:
        self.samples.setdefault(place, []).append(sample)

    def add_failure(self, place: Place, reason: str) -> None:
        self.failures.setdefault(place, []).append(reason)

    def spread(self, cell: str, peer: str, figure: str) -> Spread | None:
        samples = self.samples.get((cell, peer), [])
        values = [sample.figures[figure] for sample in samples if figure in sample.figures]
        return Spread(median(values), min(values), max(values)) if values else None

    def disturbed(self, cell: str, peer: str) -> bool:
        return any(sample.disturbance > DISTURBED_ABOVE for sample in self.samples.get((cell, peer), []))

    def load(self, path: Path, without: Set[str] = frozenset()) -> None:
        """Take over the samples and failures of these cells and peers that an earlier run wrote to a file."""
        document = json.loads(path.read_text())
        wanted = {(cell.name, peer) for cell in self.cells for peer in self.peers if peer not in without}
        for row in document["samples"]:
            if (place := (row["cell"], row["peer"])) in wanted:
                self.add(place, Sample(row["figures"], row["disturbance"]))
        for row in document["failures"]:
            if (place := (row["cell"], row["peer"])) in wanted:
                self.add_failure(place, row["reason"])

    def runs(self, place: Place) -> int:
        return len(self.samples.get(place, ())) + len(self.failures.get(place, ()))

    def as_json(self) -> str:
        document = {
            "about": self.about,
            "peers": self.peers,
            "missing": self.missing,
            "cells": [asdict(cell) for cell in self.cells],
            "medians": [
                {"cell": cell, "peer": peer, "disturbed": self.disturbed(cell, peer), **self._medians(cell, peer)}
                for cell, peer in self.samples
            ],
            "samples": _rows((place, asdict(sample)) for place, found in self.samples.items() for sample in found),
            "failures": _rows((place, {"reason": r}) for place, reasons in self.failures.items() for r in reasons),
        }
        return json.dumps(document, indent=1) + "\n"

    def _medians(self, cell: str, peer: str) -> dict[str, object]:
        names = self.samples[cell, peer][0].figures
        return {name: asdict(spread) for name in names if (spread := self.spread(cell, peer, name))}


def _rows(entries: Iterable[tuple[Place, Mapping[str, object]]]) -> list[dict[str, object]]:
    return [{"cell": cell, "peer": peer, **entry} for (cell, peer), entry in entries]
