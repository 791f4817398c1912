"""The results of a soak: figures, and invariants with their verdict; as JSON, as a readable table, as Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    phase: str
    name: str
    holds: bool
    found: str
    times: int = 1

    @property
    def named(self) -> str:
        return self.name if self.times == 1 else f"{self.name}, {self.times} times"


@dataclass
class Verdict:
    """The figures by phase and the checked invariants; ``about`` describes the run: minutes, seed, versions."""

    about: Figures
    figures: dict[str, Figures] = field(default_factory=dict)
    invariants: list[Invariant] = field(default_factory=list)

    def check(self, phase: str, name: str, holds: bool, found: object = "") -> None:
        """Add a checked invariant. Of repeated checks it keeps the first broken one, or else the last one."""
        new = Invariant(phase, name, holds, str(found))
        for place, old in enumerate(self.invariants):
            if (old.phase, old.name) == (phase, name):
                self.invariants[place] = replace(new if old.holds else old, times=old.times + 1)
                return
        self.invariants.append(new)

    @property
    def holds(self) -> bool:
        return all(invariant.holds for invariant in self.invariants)

    def as_json(self) -> str:
        invariants = [
            {"phase": each.phase, "name": each.name, "holds": each.holds, "found": each.found, "times": each.times}
            for each in self.invariants
        ]
        return json.dumps({"ok": self.holds, **self.about, "phases": self.figures, "invariants": invariants})

    def as_table(self) -> str:
        lines = [f"{phase:<22}{told(figures)}" for phase, figures in self.figures.items()]
        lines += [""]
        lines += [
            f"{'holds' if each.holds else 'BROKEN':<8}{each.phase}: {each.named}"
            + (f" ({each.found})" if each.found else "")
            for each in self.invariants
        ]
        return "\n".join([*lines, "", "All invariants hold." if self.holds else "Some invariants are broken."])

    def as_markdown(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.about.items())
        rows = [f"| {phase} | {told(figures)} |" for phase, figures in self.figures.items()]
        checks = [
            f"| {each.phase} | {each.named} | {'holds' if each.holds else '**broken**'} | {each.found} |"
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
    """Return a percentile of sorted values; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
