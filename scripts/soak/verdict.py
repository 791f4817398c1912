"""What a soak has found: figures, invariants with their verdict; as JSON, as a table for people, as Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    phase: str
    name: str
    holds: bool
    found: str


@dataclass
class Verdict:
    """``figures`` by phase; ``about`` is what the run was: minutes, seed, versions."""

    about: Figures
    figures: dict[str, Figures] = field(default_factory=dict)
    invariants: list[Invariant] = field(default_factory=list)

    def check(self, phase: str, name: str, holds: bool, found: object = "") -> None:
        self.invariants.append(Invariant(phase, name, holds, str(found)))

    @property
    def holds(self) -> bool:
        return all(invariant.holds for invariant in self.invariants)

    def as_json(self) -> str:
        invariants = [
            {"phase": each.phase, "name": each.name, "holds": each.holds, "found": each.found}
            for each in self.invariants
        ]
        return json.dumps({"ok": self.holds, **self.about, "phases": self.figures, "invariants": invariants})

    def as_table(self) -> str:
        lines = [f"{phase:<22}{told(figures)}" for phase, figures in self.figures.items()]
        lines += [""]
        lines += [
            f"{'holds' if each.holds else 'BROKEN':<8}{each.phase}: {each.name}"
            + (f" ({each.found})" if each.found else "")
            for each in self.invariants
        ]
        return "\n".join([*lines, "", "All invariants hold." if self.holds else "Some invariants are broken."])

    def as_markdown(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        rows = [f"| {phase} | {told(figures)} |" for phase, figures in self.figures.items()]
        checks = [
            f"| {each.phase} | {each.name} | {'holds' if each.holds else '**broken**'} | {each.found} |"
            for each in self.invariants
        ]
        return "\n".join(
            [f"Run: {about}.", "", "| Phase | Figures |", "|---|---|", *rows, "",
             "| Phase | What must hold | | Found |", "|---|---|---|---|", *checks, ""]
        )  # fmt: skip


def told(figures: Figures) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in figures.items())


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def percentile(ordered: list[float], share: float) -> float:
    """Of values in order; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
