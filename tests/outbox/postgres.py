"""A real PostgreSQL in a directory of its own. It refuses to run as root, so it runs as another user then."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, LiteralString, Self

import psycopg
import pytest

from tests.harness import PATIENCE, free_port

PROGRAMS: Final = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))
USER: Final = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
# The tests end processes, and not the machine: what PostgreSQL has written the kernel has, also without fsync.
OPTIONS: Final = ("fsync=off", "listen_addresses=127.0.0.1", "shared_buffers=16MB", "max_connections=40",
                  "autovacuum=off", "logging_collector=off", "jit=off")  # fmt: skip


class Postgres:
    """See the module. ``url``: a DSN of its superuser."""

    def __init__(self) -> None:
        if not (PROGRAMS / "postgres").exists():
            assert os.environ.get("CI") != "true", "needs postgresql: apt-get install postgresql"
            pytest.skip("needs postgresql: apt-get install postgresql")
        self.port = free_port()
        self.url = f"postgresql://admin@127.0.0.1:{self.port}/postgres"
        self._folder = folder = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
        self._process: subprocess.Popen[bytes] | None = None
        if USER is not None:
            os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
        self._run("initdb", "--pgdata", str(folder / "data"), "--username=admin", "--auth=trust",
                  "--no-sync", "--encoding=UTF8", "--locale=C").check_returncode()  # fmt: skip

    def _run(self, program: str, *flags: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [PROGRAMS / program, *flags], user=USER, cwd=self._folder, capture_output=True, timeout=60, check=False
        )

    def start(self) -> None:
        """Start it, and wait until it serves."""
        options = [part for option in OPTIONS for part in ("-c", option)]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", "data", "-p", str(self.port), "-k", "", *options],
                user=USER, cwd=self._folder, stdout=log, stderr=log,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE
        while self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q").returncode != 0:
            assert time.monotonic() < end, (self._folder / "log").read_text()

    def stop(self) -> None:
        """Stop it at once: it recovers from its log at its start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)
        self._process = None

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, **options)

    def ask(self, statement: LiteralString, *parameters: object) -> Any:
        """Run a statement, and return the first value of its first row."""
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        with contextlib.suppress(AssertionError):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
