"""Waits of servers in one process, which hear each other at once."""

from __future__ import annotations

import pytest

from tests.redis.conftest import engine_name, redis_server

__all__ = ["engine_name", "redis_server"]


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.cluster.cluster.REPLY_WAIT", 0.02)
    monkeypatch.setattr("pubsub.cluster.members.SOON", 0.001)
    monkeypatch.setattr("pubsub.cluster.counts.ASKERS", 0.001)
    monkeypatch.setattr("pubsub.cluster.questions.WAIT", 0.3)
