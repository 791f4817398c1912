"""The outbox as the worker reads it, and through PgBouncer in transaction mode."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pubsub.outbox.database import BATCH_BYTES, BATCH_ROWS, ORDERED, READ
from tests.harness import free_port
from tests.outbox.postgres import USER, Postgres
from tests.outbox.running import Place, wait_until

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


def test_rows_are_read_in_the_order_of_an_index(place: Place) -> None:
    """By its statistics the table is empty, and a sort of all rows would be cheap."""
    statement = f"EXPLAIN {READ.format(table='pubsub_outbox')}"
    with place.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO pubsub_outbox (topic, id, payload) SELECT 'a', gen_random_uuid(), '1' "
                           "FROM generate_series(1, 5000)")  # fmt: skip
        plans = []
        for _ in range(2):
            rows = connection.execute(statement, ([], [], BATCH_ROWS, BATCH_BYTES)).fetchall()
            plans.append("\n".join(line for (line,) in rows))
            connection.execute(ORDERED)
    assert "Sort Key" in plans[0], "the planner needs no help any more"
    assert "Sort Key" not in plans[1]
    assert "Index" in plans[1]


@pytest.fixture
def pooled(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The DSN of a PgBouncer in transaction mode."""
    if PGBOUNCER is None:
        assert os.environ.get("CI") != "true", "needs pgbouncer: apt-get install pgbouncer"
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    port = free_port()
    settings = (
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction"
    )
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={postgres.port} user=admin\n[pgbouncer]\n{settings}\n"
    )
    command = [PGBOUNCER, "-u", USER, "/dev/stdin"] if USER else [PGBOUNCER, "/dev/stdin"]
    with (tmp_path / "pgbouncer.ini").open() as file, (tmp_path / "pgbouncer.log").open("w") as log:
        process = subprocess.Popen(command, stdin=file, stderr=log)
    yield postgres.url.replace(f":{postgres.port}/", f":{port}/")
    process.kill()
    process.wait()


def test_pgbouncer_in_transaction_mode(place: Place, pooled: str) -> None:
    place.create()
    wait_until(lambda: is_there(pooled))
    first, second = (place.run_worker("--dsn", pooled, "--poll", "0.05") for _ in range(2))
    wait_until(lambda: "taken" in first.log.read_text() + second.log.read_text())
    leading, waiting = (first, second) if "taken" in first.log.read_text() else (second, first)
    waiting.wait_for("Another worker has the outbox")
    for number in range(20):
        place.publish(number)
    place.wait_until_empty()
    leading.kill()
    place.publish(20)
    waiting.wait_for("Outbox taken")
    place.wait_until_empty()
    assert place.payloads() == list(range(21))


def is_there(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True
