"""docs/outbox.md: its first session runs as it is written, and its SQL does what it says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness import PATIENCE, REPOSITORY, ForkedServer, clean_environment
from tests.outbox.postgres import PROGRAMS, Postgres
from tests.test_docs import PACKAGE, blocks, check_log_lines, on_port, section

NAME = "docs/outbox.md"
DSN = "postgresql://localhost/shop"


@pytest.fixture
def shop(postgres: Postgres) -> Iterator[str]:
    """The DSN of a new database."""
    postgres.ask("CREATE DATABASE shop")
    yield postgres.url.replace("/postgres", "/shop")
    postgres.ask("DROP DATABASE shop WITH (FORCE)")


class Session:
    """Runs commands of the page against a database and a server on other ports than the page has."""

    def __init__(self, dsn: str, port: int, folder: Path) -> None:
        self._dsn = dsn
        self._port = port
        self._folder = folder
        self._path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])

    def start(self, command: str) -> subprocess.Popen[str]:
        program = f"{shlex.quote(sys.executable)} -m pubsub "
        command = re.sub(r"^pubsub ", lambda _: program, on_port(command, self._port).replace(DSN, self._dsn))
        return subprocess.Popen(
            ["bash", "-ec", f"exec 2>&1; {'' if '|' in command or '>' in command else 'exec '}{command}"],
            cwd=self._folder, stdout=subprocess.PIPE, text=True,
            env=clean_environment() | {"PATH": self._path, "PYTHONPATH": str(REPOSITORY),
                                       "PUBSUB_URL": f"http://127.0.0.1:{self._port}"},
        )  # fmt: skip

    def run(self, command: str) -> str:
        """Return what the command prints."""
        with self.start(command) as process:
            out, _ = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, command + out
        return out


def test_first_session(shop: str, tmp_path: Path) -> None:
    seen = 0
    with ForkedServer("--data-dir", str(tmp_path)) as server, contextlib.ExitStack() as stack:
        session = Session(shop, server.port, tmp_path)
        for block in blocks(NAME):
            if block.kind == "console worker":
                worker = stack.enter_context(session.start(block.lines[0].removeprefix("$ ")))
                stack.callback(worker.kill)
                assert worker.stdout is not None
                assert "Outbox opened" in worker.stdout.readline()
            elif block.kind == "console postgresql":
                for part in re.split(r"^\$ ", "\n".join(block.lines), flags=re.MULTILINE)[1:]:
                    command, _, output = part.partition("\n")
                    assert session.run(command).strip() == output.strip(), command
                    seen += 1
    assert seen == 7


def test_log_lines_are_those_of_the_code() -> None:
    check_log_lines(section(NAME, "Running the worker"), (PACKAGE / "outbox").rglob("*.py"))


def test_statements_for_refused_rows(shop: str) -> None:
    Session(shop, 0, REPOSITORY).run(f"pubsub outbox --dsn {DSN} --install")
    (block,) = [block for block in blocks(NAME) if block.kind == "sql"]
    with psycopg.connect(shop) as connection:
        connection.execute("SELECT pubsub_publish('orders', '1')")
        connection.execute("UPDATE pubsub_outbox SET number = DEFAULT, error = 'too large'")
        connection.execute("UPDATE pubsub_outbox SET number = DEFAULT")
        look, mend = block.lines
        rows = connection.execute(look.encode()).fetchall()
        assert [row[1:] for row in rows] == [("orders", "too large", 1)]
        connection.execute(mend.replace("17", str(rows[0][0])).encode())
        assert connection.execute(look.encode()).fetchall() == []
