"""The worker: each job takes effect once, although the worker is killed again and again."""

from __future__ import annotations

import contextlib
import json
import runpy
import sqlite3
from pathlib import Path

import pytest

from pubsub.client import Event
from tests.examples.programs import EXAMPLES, ExampleServer, Program, post, run, wait_until

BATCH = 30


def balance(path: Path) -> int:
    """Return what the worker has booked so far."""
    with contextlib.closing(sqlite3.connect(path)) as db, contextlib.suppress(sqlite3.OperationalError):
        if row := db.execute("SELECT balance FROM accounts WHERE name = 'alice'").fetchone():
            return int(row[0])
    return 0  # perhaps the worker has not made its tables yet


def test_each_job_takes_effect_once_over_kills(server: ExampleServer, tmp_path: Path) -> None:
    results = tmp_path / "results.db"
    for number in range(2):
        publish(server, [{"payload": {"name": "alice", "amount": 1}}] * BATCH)
        with Program("worker.worker", PUBSUB_URL=server.url, RESULTS_DB=str(results)):
            wait_until(lambda: balance(results) > number * BATCH)  # noqa: B023 - it is called in this turn
        # Here it has been killed while it worked.
    with Program("worker.worker", PUBSUB_URL=server.url, RESULTS_DB=str(results)):
        run("pubsub pub", PUBSUB_URL=server.url)  # one more job, 5 for alice
        wait_until(lambda: balance(results) >= 2 * BATCH + 5)
    assert balance(results) == 2 * BATCH + 5


def test_a_result_without_its_position_is_not_saved(tmp_path: Path) -> None:
    worker = runpy.run_path(str(EXAMPLES / "worker" / "worker.py"))
    with contextlib.closing(worker["open_results"](str(tmp_path / "results.db"))) as db:
        db.execute("DROP TABLE positions")
        with pytest.raises(sqlite3.OperationalError):
            worker["do"](db, Event("jobs", 1, "epoch", "id", {"name": "alice", "amount": 1}, "ts"))
    assert balance(tmp_path / "results.db") == 0


def publish(server: ExampleServer, jobs: list[dict[str, object]]) -> None:
    post(f"{server.url}/topics/jobs/messages", json.dumps(jobs))
