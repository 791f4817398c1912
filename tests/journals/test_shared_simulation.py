"""Servers over a simulated engine: connections, records and tails are lost, and clients move from server to server.

A run that fails is repeated by its seed: ``simulated_cluster.run(seed, steps)``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.journals import simulated_cluster


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member of a topic has a turn of its own when it is told where the topic goes on."""
    monkeypatch.setattr("pubsub.core.renewal.TOLD", 1)


@pytest.mark.parametrize("seed", range(0, 200, 50))
def test_servers_agree_and_clients_get_each_message_once_or_a_gap(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    for each in range(seed, seed + 50):
        simulated_cluster.run(each, 400)
    assert not [record for record in caplog.records if record.exc_info], "a callback failed"


@pytest.mark.parametrize("seed", range(1000, 1004))
def test_long_runs_with_several_failovers(seed: int) -> None:
    simulated_cluster.run(seed, 6000)


def test_the_runs_have_what_they_are_to_judge() -> None:
    seen = Counter[str]()
    for seed in range(30):
        cluster = simulated_cluster.run(seed, 1500)
        seen += cluster.seen
    for what in ("event", "dropped", "topic_created", "topic_deleted", "recovered", "not recovered", "acked",
                 "repeated", "NotStored", "Conflict"):  # fmt: skip
        assert seen[what] > 20, seen
