"""The outcome of a check, and the exceptions by which a check ends. It must never print."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


class Outcome(Struct, frozen=True):
    """``did`` is the action of the check, ``detail`` its result, ``advice`` the change to make after a failure."""

    name: str
    did: str
    state: State
    detail: str
    advice: str = ""


class CheckFailed(Exception):
    """The deployment did something else than expected. ``advice``: the change to make; empty if none is known."""

    def __init__(self, detail: str, advice: str = "") -> None:
        super().__init__(detail)
        self.advice = advice


class CheckSkipped(Exception):
    """The check can't be made; the text gives the reason."""
