"""The pieces of long work, made so small that other steps happen between all of them."""

from __future__ import annotations

import pytest


def shrink_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each turn of the core do one thing."""
    for name in (
        "memberships.MEMBERS",
        "memberships.PLACED",
        "memberships.LANES_IN_A_TURN",
        "joining.COMPARED",
        "joining.COMPARED_AT_FIRST",
        "joining.ENTERED",
        "review.REVIEWED",
        "review.COMPARED",
        "filtered_lane.ROOM",
        "flushing.ROOM",
        "history.LOOKED_AT",
        "lane.LANES_IN_A_TURN",
        "catchup.REPLAY_PAGE",
        "catchup.FILTERED_PAGE",
        "presence.REMOVED",
        "presence.TOLD",
        "renewal.TOLD",
    ):
        monkeypatch.setattr(f"pubsub.core.{name}", 1)
