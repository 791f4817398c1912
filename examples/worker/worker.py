"""A worker: each job changes an account once, also if the worker is killed at any moment.

Its position in the topic is saved in the same transaction as the result. So both are there after a crash, or neither.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3

from pubsub.client import Client, Event, Position

SERVER = os.environ.get("PUBSUB_URL", "http://localhost:8080")


def open_results(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    db.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, balance INTEGER);
        CREATE TABLE IF NOT EXISTS positions (topic TEXT PRIMARY KEY, epoch TEXT, seq INTEGER);
    """)
    return db


def saved_position(db: sqlite3.Connection) -> dict[str, Position]:
    return {topic: Position(epoch, seq) for topic, epoch, seq in db.execute("SELECT * FROM positions")}


def do(db: sqlite3.Connection, job: Event[dict[str, object]]) -> None:
    """Change the account and the position in one transaction."""
    with db:
        db.execute(
            "INSERT INTO accounts VALUES (:name, :amount) ON CONFLICT DO UPDATE SET balance = balance + :amount",
            job.payload,
        )
        db.execute("REPLACE INTO positions VALUES (?, ?, ?)", (job.topic, job.epoch, job.seq))


async def main() -> None:
    db = open_results(os.environ.get("RESULTS_DB", "results.db"))
    async with (
        Client(SERVER, client_id="worker", connect_timeout=None) as client,
        client.subscribe("jobs", last_n=1_000_000, resume=saved_position(db)) as jobs,
    ):
        async for job in jobs:
            if isinstance(job, Event):
                do(db, job)
            else:
                print(job)  # a Gap: jobs that the topic no longer keeps


if __name__ == "__main__":
    asyncio.run(main())
