"""Cost of SQLite and the disk alone: rows as a durable topic keeps them, committed in batches; no network, no JSON.

python sqlite_commits.py FOLDER ROWS SECONDS    commits of ROWS rows each; prints one line of JSON
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

KEPT = 100
"""Rows that a topic keeps, as in this server's default history."""
EVENT = b"x" * 300


def main(folder: str, rows: int, seconds: float) -> None:
    database = open_database(Path(folder, "events.db"))
    commit_for(database, 1, rows, seconds / 10)  # not measured: it grows the file and warms the caches
    first = last_number(database) + 1
    start, cpu = time.monotonic(), time.process_time()
    commit_for(database, first, rows, seconds)
    elapsed, cpu = time.monotonic() - start, time.process_time() - cpu
    messages = last_number(database) - first + 1
    print(json.dumps({"messages": messages, "messages_per_s": messages / elapsed, "cpu_s": cpu}))


def open_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, event BLOB NOT NULL, expires REAL) STRICT")
    return database


def commit_for(database: sqlite3.Connection, number: int, rows: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        database.execute("BEGIN")
        database.executemany("INSERT INTO event VALUES (?, ?, NULL)", [(number + row, EVENT) for row in range(rows)])
        number += rows
        database.execute("DELETE FROM event WHERE seq < ?", (number - KEPT,))
        database.execute("COMMIT")


def last_number(database: sqlite3.Connection) -> int:
    (found,) = database.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
    return int(found)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
