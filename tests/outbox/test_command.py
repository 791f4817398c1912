"""The command ``pubsub outbox``: each mistake is one line and an exit status, and nothing is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pubsub.__main__ import main
from pubsub.cli import outbox
from pubsub.outbox.schema import quoted
from tests.harness import PATIENCE, REPOSITORY, ForkedServer, clean_environment, free_port
from tests.outbox.postgres import Postgres
from tests.outbox.running import Place, wait_until


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(outbox, "set_up_logs", lambda level, form: None)
    return Run(capfd)


class Run:
    """Runs the command in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *flags: str) -> tuple[int, str]:
        """Return the exit status, and all that was printed."""
        self._capture.readouterr()
        status = main(["outbox", *flags])
        return status, "".join(self._capture.readouterr())

    def fails(self, *flags: str) -> str:
        """Return the one line that the command ended with."""
        status, text = self(*flags)
        assert status == 1
        assert text.count("\n") == 1, text
        assert text.startswith("pubsub outbox: ")
        return text


@pytest.mark.parametrize("dsn", ["postgresql://a:secret@[bad/db", "host=x secret", "postgresql://x/?secret=%zz"])
def test_dsn_that_is_none(run: Run, dsn: str) -> None:
    text = run.fails("--dsn", dsn)
    assert "--dsn: expected a connection string of PostgreSQL" in text
    assert "secret" not in text


def test_database_that_is_not_there(run: Run, postgres: Postgres) -> None:
    assert "Connection refused" in run.fails("--dsn", f"postgresql://a:secret@127.0.0.1:{free_port()}/x")
    assert 'database "none" does not exist' in run.fails("--dsn", postgres.url.replace("/postgres", "/none"))


def test_outbox_that_is_not_installed(run: Run, postgres: Postgres) -> None:
    assert "no_such.pubsub_outbox: expected an outbox of version 1, got none (--install)" in run.fails(
        "--dsn", postgres.url, "--schema", "no_such"
    )
    assert 'schema "no_such" does not exist' in run.fails("--install", "--dsn", postgres.url, "--schema", "no_such")


def test_outbox_of_a_later_version(run: Run, place: Place) -> None:
    with place.connect() as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION pubsub_outbox_version() RETURNS integer LANGUAGE sql AS 'SELECT 99'"
        )
    for flags in ([], ["--install"]):
        text = run.fails("--dsn", place.postgres.url, "--schema", place.schema, *flags)
        assert "version 99 of the outbox, this program knows 1" in text


def test_role_without_rights(run: Run, place: Place) -> None:
    with place.connect() as connection:
        connection.execute(f"CREATE ROLE reader_{place.schema} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {place.schema} TO reader_{place.schema}")
        connection.execute(f"GRANT SELECT, UPDATE ON pubsub_outbox TO reader_{place.schema}")
    dsn = place.postgres.url.replace("admin", f"reader_{place.schema}")
    text = run.fails("--dsn", dsn, "--schema", place.schema)
    assert f"{place.schema}.pubsub_outbox: the role 'reader_{place.schema}' needs the right DELETE" in text
    assert "permission denied" in run.fails("--install", "--dsn", dsn, "--schema", "information_schema")


def test_database_without_an_encoding(run: Run, postgres: Postgres) -> None:
    postgres.ask("CREATE DATABASE bytes ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    dsn = postgres.url.replace("/postgres", "/bytes")
    assert run("--install", "--dsn", dsn)[0] == 0
    assert "expected a database with the encoding UTF8" in run.fails("--dsn", dsn)


def test_token_that_the_server_refuses(run: Run, place: Place) -> None:
    with ForkedServer("--api-keys", "app:publish:00000000000000000000000000000000") as server:
        place.publish(1)
        flags = ["--dsn", place.postgres.url, "--schema", place.schema, "--url", server.url]
        assert "API key" in run.fails(*flags, "--api-key", "another-key")
    assert place.waiting() == 1


def test_program_without_psycopg(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('the test wants no psycopg')")
    done = subprocess.run(
        [sys.executable, "-m", "pubsub", "outbox"],
        env=clean_environment() | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("pubsub outbox: needs psycopg: pip install 'pubsub[outbox]'")


def test_install_is_done_once_and_by_one_at_a_time(run: Run, place: Place) -> None:
    place.publish(1)
    assert run("--install", "--dsn", place.postgres.url, "--schema", place.schema) == (
        0,
        f"{place.schema}.pubsub_outbox, version 1: was there already\n",
    )
    assert place.waiting() == 1


def test_printed_sql_installs_it(run: Run, place: Place) -> None:
    name = 'my "outbox"'
    status, text = run("--sql", "--schema", name)
    assert status == 0
    with place.connect() as connection:
        connection.execute(f"CREATE SCHEMA {quoted(name)}")
        connection.execute(text)
        connection.execute(f"SELECT {quoted(name)}.pubsub_publish(%s, '1')", (place.topic,))
    place.create()
    worker = place.run_worker("--schema", name)
    wait_until(lambda: place.payloads() == [1])
    assert worker.stop() == 0
    assert "already" in run("--install", "--dsn", place.postgres.url, "--schema", name)[1]
