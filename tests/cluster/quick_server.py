"""``pubsub serve`` whose servers notice in tenths of a second what they notice in seconds else."""

from __future__ import annotations

import sys

import pubsub.cluster.members as members
import pubsub.cluster.questions as questions
import pubsub.core.presence as presence
from pubsub.__main__ import main

FACTOR = 0.1

for name in ("BEAT", "DEAD", "CUT_OFF", "CHECK"):
    setattr(members, name, getattr(members, name) * FACTOR)
presence.AWAY = 1.5  # type: ignore[misc]
questions.WAIT *= FACTOR  # type: ignore[misc]

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
