"""Whatever dies, at any moment: each committed row is in its topic once, in order, and nothing else is."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import psycopg
import pytest

from tests.harness import PATIENCE, ForkedServer, free_port
from tests.outbox.running import FLAGS, Place, WorkerProcess, one, publish, wait_until

WRITERS: Final = 4
TOPICS: Final = 5
ROWS: Final = 10_000
FAULTS: Final = 6


def test_worker_killed_between_the_answer_and_the_deletion(place: Place) -> None:
    place.create()
    for number in range(5):
        place.publish(number)
    with place.connect() as observer, place.transaction() as connection:
        connection.execute("SELECT FROM pubsub_outbox FOR UPDATE")  # nobody else can delete
        worker = place.run_worker()
        wait_until(lambda: len(place.payloads()) == 5)
        worker.kill()
        wait_until(lambda: is_gone(observer))
    assert place.waiting() == 5
    place.run_worker()
    place.publish(5)
    place.wait_until_empty()
    assert place.payloads() == list(range(6))


def is_gone(connection: psycopg.Connection[object]) -> bool:
    """Return True if no connection of a worker is left. A statement that waits would be executed all the same."""
    end_connections(connection, "active")
    statement = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pubsub outbox'"
    return bool(one(connection, statement))


def test_second_worker_waits_and_takes_over(place: Place) -> None:
    place.create()
    first = place.run_worker()
    first.wait_for("Outbox taken")
    second = place.run_worker()
    second.wait_for("Another worker has the outbox")
    place.publish(1)
    place.wait_until_empty()
    assert "taken" not in second.log.read_text()
    first.kill()
    place.publish(2)
    second.wait_for("Outbox taken")
    place.wait_until_empty()
    assert place.payloads() == [1, 2]
    assert second.stop() == 0


def test_worker_that_waits_ends_at_once(place: Place) -> None:
    place.run_worker().wait_for("Outbox taken")
    second = place.run_worker()
    second.wait_for("Another worker has the outbox")
    assert second.stop() == 0


@pytest.mark.parametrize("state", ["idle in transaction", "idle"], ids=["lease", "listener"])
def test_lost_connections_are_made_again(place: Place, state: str) -> None:
    place.create()
    worker = place.run_worker("--poll", "0.2")
    worker.wait_for("Outbox taken")
    with place.connect() as connection:
        wait_until(lambda: end_connections(connection, state) > 0)
    worker.wait_for("Database is lost")
    place.publish(1)
    place.wait_until_empty()
    assert place.payloads() == [1]


def end_connections(connection: psycopg.Connection[object], state: str) -> int:
    statement = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'pubsub outbox' AND state = %s"
    )
    return int(one(connection, statement, state))


class Writer(threading.Thread):
    """Commits and rolls back transactions with rows, whatever happens to the database.

    ``committed`` has the payloads of each topic in the order of this writer, and ``unknown`` those of transactions
    whose commit had no answer.
    """

    def __init__(self, place: Place, number: int, rows: int) -> None:
        super().__init__(daemon=True)
        self.committed: list[tuple[str, str]] = []
        self.unknown: list[tuple[str, str]] = []
        self._place = place
        self._number = number
        self._rows = rows
        self._random = random.Random(number)

    def run(self) -> None:
        while len(self.committed) < self._rows:
            with suppress(psycopg.OperationalError), self._place.connect() as connection:
                while len(self.committed) < self._rows:
                    self._commit(connection)

    def _commit(self, connection: psycopg.Connection[object]) -> None:
        rows = [
            (f"{self._place.topic}.{self._random.randrange(TOPICS)}", f"{self._number}-{time.monotonic_ns()}")
            for _ in range(self._random.randrange(1, 60))
        ]
        connection.execute("BEGIN")
        for topic, payload in rows:
            publish(connection, topic, payload)
        if self._random.random() < 0.1:
            connection.execute("ROLLBACK")
            return
        try:
            connection.execute("COMMIT")
        except psycopg.OperationalError:
            self.unknown += rows
            raise
        self.committed += rows


class Service:
    """A server with durable topics and a worker, both of which can be killed and started again."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._port = free_port()
        place.url = f"http://127.0.0.1:{self._port}"
        self.start_server()
        self.start_worker()

    def start_server(self) -> None:
        flags = (*FLAGS, "--port", str(self._port), "--data-dir", str(self._place.folder))
        self.server = ForkedServer(*flags)

    def start_worker(self) -> None:
        self.worker: WorkerProcess = self._place.run_worker()

    def crash_server(self) -> None:
        self.server.__exit__()
        self.start_server()

    def crash_worker(self) -> None:
        self.worker.kill()
        self.start_worker()

    def crash_database(self) -> None:
        self._place.postgres.stop()
        self._place.postgres.start()


@pytest.fixture
def service(place: Place) -> Iterator[Service]:
    service = Service(place)
    yield service
    service.server.__exit__()


def test_ten_thousand_rows_and_random_crashes(place: Place, service: Service) -> None:
    topics = [f"{place.topic}.{number}" for number in range(TOPICS)]
    for topic in topics:
        place.create(topic, durable=True, dedup_sec=600, history=100_000)
    writers = [Writer(place, number, ROWS // WRITERS) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    crashes: list[Callable[[], None]] = [service.crash_server, service.crash_worker, service.crash_database]
    for number in range(FAULTS):
        wait_for_more(place, topics, writers)
        crashes[number % len(crashes)]()
    for writer in writers:
        writer.join(PATIENCE)
        assert not writer.is_alive()
    place.wait_until_empty()
    judge(writers, {topic: place.payloads(topic) for topic in topics})


def wait_for_more(place: Place, topics: list[str], writers: list[Writer]) -> None:
    """Wait until more messages have come, or all that will come are committed."""
    before = count(place, topics)
    wait_until(lambda: count(place, topics) > before or not any(writer.is_alive() for writer in writers))


def count(place: Place, topics: list[str]) -> int:
    """Return the number of messages that the topics ever had."""
    return sum(place.call("GET", f"/topics/{topic}")["seq"] for topic in topics)


def judge(writers: list[Writer], found: dict[str, list[str]]) -> None:
    """Check that each committed row is there once, in the order of its writer, and that no other is."""
    for topic, payloads in found.items():
        assert len(payloads) == len(set(payloads)), "a row came twice"
        for number, writer in enumerate(writers):
            committed = [payload for name, payload in writer.committed if name == topic]
            unknown = {payload for name, payload in writer.unknown if name == topic}
            came = [payload for payload in payloads if payload.startswith(f"{number}-")]
            assert [payload for payload in came if payload not in unknown] == committed
            assert came == sorted(came, key=lambda payload: int(payload.partition("-")[2])), "a topic's order is lost"
