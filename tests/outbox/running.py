"""An outbox in a schema of its own, its workers, and the topics that they fill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from pubsub.__main__ import main
from tests.forked import CONTEXT
from tests.harness import PATIENCE, Json, new_id
from tests.outbox.postgres import Postgres

FLAGS: Final = ("--rate-limit-msgs-per-sec", "0")
"""Flags of a server that takes as many messages as come."""


def run_outbox(flags: Sequence[str], log: Path) -> None:
    """Run the command in this new process."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    os.environ.pop("PUBSUB_DSN", None)
    sys.exit(main(["outbox", *flags]))


class WorkerProcess:
    """``pubsub outbox`` in a process of its own, which is forked from one that has imported most of it."""

    def __init__(self, place: Place, *flags: str) -> None:
        self.log = place.folder / f"worker-{new_id()}.log"
        self.log.touch()
        own = ("--dsn", place.postgres.url, "--schema", place.schema, "--url", place.url)
        self._process = CONTEXT.Process(target=run_outbox, args=((*own, *flags), self.log))
        self._process.start()

    def wait_for(self, pattern: str) -> None:
        """Wait for a line of the log."""
        wait_until(lambda: re.search(pattern, self.log.read_text()) is not None or self._process.exitcode is not None)
        assert re.search(pattern, self.log.read_text()), self.log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def stop(self) -> int:
        self.wait_for("Outbox opened")
        self._process.terminate()
        self._process.join(PATIENCE)
        assert self._process.exitcode is not None, self.log.read_text()
        return int(self._process.exitcode)


class Place:
    """See the module. ``url``: the server; a test may put another one there."""

    def __init__(self, postgres: Postgres, url: str, folder: Path) -> None:
        self.postgres = postgres
        self.url = url
        self.folder = folder
        self.schema = f"outbox_{new_id()[:8]}"
        self.topic = f"{self.schema}.orders"
        self._workers: list[WorkerProcess] = []

    def run_worker(self, *flags: str) -> WorkerProcess:
        worker = WorkerProcess(self, *flags)
        self._workers.append(worker)
        return worker

    # The database

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return self.postgres.connect(options=f"-c search_path={self.schema}", **options)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self.connect() as connection, connection.transaction():
            yield connection

    def publish(self, payload: Any, topic: str = "", **options: Any) -> str:
        """Publish in a transaction of its own; return the id."""
        with self.connect() as connection:
            return publish(connection, topic or self.topic, payload, **options)

    def waiting(self) -> int:
        with self.connect() as connection:
            return int(one(connection, "SELECT count(*) FROM pubsub_outbox WHERE error IS NULL"))

    def wait_until_empty(self) -> None:
        wait_until(lambda: self.waiting() == 0)

    # The server

    def create(self, topic: str = "", **options: Any) -> None:
        """Create a topic that keeps all messages and takes none twice, unless ``options`` say otherwise."""
        self.call(
            "POST", "/topics", {"name": topic or self.topic, "history": 100_000} | (options or {"dedup_sec": 600})
        )

    def call(self, method: str, path: str, body: Json | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(body).encode() if body else None, method=method
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)

    def events(self, topic: str = "") -> list[Json]:
        """Return all messages of a topic; none if it does not exist."""
        found: list[Json] = []
        with contextlib.suppress(urllib.error.HTTPError):
            while page := self._page(topic or self.topic, found[-1]["seq"] if found else 0):
                found += page
        return found

    def _page(self, topic: str, after: int) -> list[Json]:
        found = self.call("GET", f"/topics/{topic}/messages?after={after}&limit=1000")
        assert found["complete"], found
        messages: list[Json] = found["messages"]
        return messages

    def payloads(self, topic: str = "") -> list[Any]:
        return [event["message"]["payload"] for event in self.events(topic)]

    def __enter__(self) -> Self:
        with self.postgres.connect() as connection:
            connection.execute(f"CREATE SCHEMA {self.schema}")
        assert main(["outbox", "--install", "--dsn", self.postgres.url, "--schema", self.schema]) == 0
        return self

    def __exit__(self, *failure: object) -> None:
        for worker in self._workers:
            worker.kill()


def publish(connection: psycopg.Connection[Any], topic: str, payload: Any, *, ttl_sec: float | None = None) -> str:
    statement = "SELECT pubsub_publish(%s, NULL, %s, %s)::text"
    return str(one(connection, statement, topic, json.dumps(payload), ttl_sec))


def one(connection: psycopg.Connection[Any], statement: Any, *parameters: object) -> Any:
    """Return the first value of the first row."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)  # other processes give no event to wait for
