"""The outcomes of a run as lines for people, and as one line of JSON. It must never write."""

from __future__ import annotations

from collections import Counter
from typing import Final

from yarl import URL

from pubsub.cli.printed import json_line
from pubsub.client.address import without_password
from pubsub.client.terminal import escape
from pubsub.verify.outcomes import Outcome, State

_WIDTH: Final = 15
_MARKS: Final = {State.OK: "ok", State.FAILED: "FAILED", State.SKIPPED: "skipped"}


def describe(outcome: Outcome) -> bytes:
    """Return the row of a check, and a row with advice below a failure."""
    rows = [f"{_MARKS[outcome.state]:9}{outcome.name:{_WIDTH}}{outcome.did}: {outcome.detail}"]
    if outcome.advice:
        rows.append(f"{'':9}{'':{_WIDTH}}-> {outcome.advice}")
    return b"".join(escape(row).encode() + b"\n" for row in rows)


def summary(url: URL, outcomes: list[Outcome], seconds: float) -> bytes:
    counts = Counter(each.state for each in outcomes)
    text = f"{counts[State.OK]} ok, {counts[State.FAILED]} failed, {counts[State.SKIPPED]} skipped"
    return escape(f"{without_password(url)}: {text}, in {seconds:.1f} s").encode() + b"\n"


def as_json(url: URL, outcomes: list[Outcome], seconds: float, *, left_behind: list[str]) -> bytes:
    """Return all in one line; ``ok`` is false after a failure."""
    counts = Counter(each.state for each in outcomes)
    return json_line(
        {
            "url": without_password(url),
            "ok": not counts[State.FAILED],
            "seconds": round(seconds, 3),
            "counts": {state: counts[state] for state in State},
            "checks": outcomes,
            "left_behind": left_behind,
        }
    )
