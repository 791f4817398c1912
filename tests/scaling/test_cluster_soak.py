"""The soak of several servers: ten rounds of faults break nothing, and servers that share nothing are found out."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import cluster_soak
import pytest
from cluster_faults import ServerFaults
from cluster_soak import ClusterSoak
from clusters import Cluster, create_topics
from judge import Judge
from reading import Told
from verdict import Verdict

from tests.harness import REPOSITORY, clean_environment, on_one_loop
from tests.redis.programs import need

# Those that need no long wait; `make soak ARGS="--cluster redis"` makes all.
REDIS = [("redis", "kill-a-server cut half-open deaf partition"),
         ("valkey", "restart-redis wipe-redis fill-the-memory fill-the-disk fill-the-disk-until-redis-ends"),
]  # fmt: skip
WORKERS = "kill-a-worker stop-a-worker kill-the-owner kill-the-owner-and-a-worker create-again"


def soak(*flags: str) -> dict[str, Any]:
    command = [sys.executable, "scripts/soak/soak.py", "--cluster", *flags]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["ok"] is True
    return dict(result["phases"]["cluster"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("engine", "faults"), REDIS)
def test_row_50_51_52_and_70_rounds_of_faults_on_redis(engine: str, faults: str) -> None:
    need(engine)
    which = ("--engine", engine, "--servers", "2", "--rounds", "5", "--seed", "7")
    figures = soak("redis", *which, "--faults", *faults.split())
    assert figures["rounds"] == 5
    assert set(figures["faults"]) == set(faults.split())
    assert figures["outcomes"]["acked"] > 150
    assert figures["events"] > 500


@pytest.mark.timeout(180)
def test_row_70_faults_of_worker_processes() -> None:
    figures = soak("workers", "--servers", "2", "--rounds", "5", "--seed", "5", "--faults", *WORKERS.split())
    assert figures["rounds"] == 5
    assert figures["outcomes"]["acked"] > 100


@pytest.mark.parametrize(
    ("clients", "holds"),
    [
        ([(9, 9), (9, 9)], True),
        ([(9, 9), (7, 7)], True),  # the server of the second one had got no more
        ([(9, 8), (9, 8), (7, 7)], True),  # the engine has lost message 9
        ([(9, 9), (7, 8)], False),
        ([(9, 9), (9, 8)], False),
        ([(9, 8), (9, 9)], False),
    ],
)
def test_the_judge_finds_servers_that_disagree_on_the_beginning_of_an_epoch(
    clients: list[tuple[int, int]], holds: bool
) -> None:
    """The last message that each client had got, and that behind which it was told that the topic begins again."""
    judge = Judge()
    for number, (had, told) in enumerate(clients):
        judge.new_reading(str(number), "a")
        judge.begin(str(number), {"a": ("e1", had)})
        judge.take_gap(str(number), Told("a", "e2", "created_again", None, told, None))
    assert (not judge.broken) is holds


@on_one_loop
async def test_servers_that_share_nothing_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_soak, "SETTLE_SEC", 0.5)
    verdict, random = Verdict({}), Random(1)
    async with AsyncExitStack() as stack:
        cluster = Cluster()
        await cluster.start(stack, tmp_path, ["", ""], {})
        for server in cluster.servers:
            await create_topics(server)
        await ClusterSoak(
            cluster, verdict, random, 1, lambda check: ServerFaults(cluster, random, check, ["nothing"])
        ).run()
    broken = {each.name for each in verdict.invariants if not each.holds}
    assert "all servers have the same history" in broken
    assert "all servers know the same topics and epochs" in broken
