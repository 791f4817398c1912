"""A server that imports this notices in tenths of a second what it would notice in seconds."""

from __future__ import annotations

from typing import Final

from pubsub.cluster import members, questions
from pubsub.core import presence

FACTOR: Final = 0.1

for name in ("BEAT", "DEAD", "CUT_OFF", "CHECK"):
    setattr(members, name, getattr(members, name) * FACTOR)
setattr(presence, "AWAY", 1.2)  # noqa: B010 - a constant, which mypy lets nobody change
setattr(questions, "WAIT", questions.WAIT * FACTOR)  # noqa: B010
