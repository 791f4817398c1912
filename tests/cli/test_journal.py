"""``pubsub journal``: shows and changes durable topics on disk, with and without a running server."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pubsub.journals.store import VERSION
from tests.harness import REPOSITORY, clean_environment, new_id, on_one_loop, publish_request
from tests.journals.test_faults import TOPIC, ask, lines, make_topic, read_all, run_journal, serve
from tests.journals.world import World, message


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Make a journal with a topic ``t`` of 30 messages."""
    ended = run_journal("import", tmp_path, "t", lines=lines(30))
    assert (ended.returncode, ended.stderr) == (0, "30 messages imported to t\n")
    return tmp_path


def exported(directory: Path, topic: str = "t") -> list[Any]:
    ended = run_journal("export", directory, topic)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_export_gives_what_import_took(journal: Path) -> None:
    events = exported(journal)
    assert [event["seq"] for event in events] == list(range(1, 31))
    assert [event["message"]["payload"] for event in events] == [f"x{number}" for number in range(30)]
    assert {event["topic"] for event in events} == {"t"}
    command = [sys.executable, "-m", "pubsub", "journal", "export", "t", "--data-dir", str(journal)]
    done = subprocess.run(command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, timeout=30, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == events, "the program prints the same"


def test_an_export_can_be_imported_elsewhere_with_ids_and_times(journal: Path, tmp_path: Path) -> None:
    text = run_journal("export", journal, "t").stdout.replace("2026-", "2001-")
    other = tmp_path / "other"
    assert run_journal("import", other, "u", "--history", "20", lines=text).returncode == 0
    events = exported(other, "u")
    assert [event["message"] for event in events][-20:] == [event["message"] for event in exported(journal)][-20:]
    assert {event["topic"] for event in events} == {"u"}
    assert all(event["ts"] in text for event in events)


def test_an_import_keeps_the_sender_of_an_event(tmp_path: Path) -> None:
    line = json.dumps(publish_request("t", 1) | {"ts": "2001-01-01T00:00:00Z", "from": "alice"})
    assert run_journal("import", tmp_path, "t", lines=f"{line}\n{lines(1)}").returncode == 0
    assert [event.get("from") for event in exported(tmp_path)] == ["alice", None]


def test_purged_messages_are_not_shown_though_their_rows_are_there(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.create(sender=True)
    world.publish_all(*[message() for _ in range(20)], client_id="alice")
    assert world.purge() == 20
    world.publish(message("after"), client_id="bob")
    world.close()
    assert [(event["seq"], event["from"]) for event in exported(tmp_path)] == [(21, "bob")]
    assert run_journal("check", tmp_path).stdout == "1 topics, 1 messages, 0 problems\n"
    (row,) = [json.loads(line) for line in run_journal("stats", tmp_path, "--json").stdout.splitlines()]
    assert (row["messages"], row["seq"], row["bytes"] < 200) == (1, 21, True)
    assert run_journal("trim", tmp_path, "t", "--keep", "5").returncode == 0
    assert [event["seq"] for event in exported(tmp_path)] == [21]


@pytest.mark.parametrize(
    "command", [["check"], ["stats"], ["export", "t"], ["import", "t"], ["trim", "t", "--keep", "1"]]
)
def test_a_journal_of_a_later_version_is_left_alone(journal: Path, command: list[str]) -> None:
    set_version(journal, VERSION + 1)
    ended = run_journal(command[0], journal, *command[1:], lines=lines(1))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"pubsub journal: {journal}/journal.db: version {VERSION + 1} of the journal, this server knows {VERSION}\n"
    )


def test_options_of_a_later_version_are_an_error_that_names_the_topic(journal: Path) -> None:
    with sqlite3.connect(journal / "journal.db") as disk:
        disk.execute("""UPDATE topics SET options = '{"history":5,"durable":true,"colour":"red"}'""")
    ended = run_journal("stats", journal)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"pubsub journal: {journal}/journal.db: the options of topic 't' can't be read: "
        "Object contains unknown field `colour`\n"
    )


@pytest.mark.parametrize("command", [["check"], ["stats"], ["export", "t"]])
def test_a_journal_of_an_earlier_version_is_read_as_it_is(journal: Path, command: list[str]) -> None:
    set_version(journal, 1)
    assert run_journal(command[0], journal, *command[1:]).returncode == 0
    assert version(journal) == 1


def test_a_journal_of_an_earlier_version_is_converted_when_it_is_written_to(journal: Path) -> None:
    set_version(journal, 1)
    with sqlite3.connect(journal / "journal.db") as disk:
        disk.execute(
            """UPDATE topics SET options = '{"history":100,"ttl_sec":null,"durable":true,"dedup_sec":null,"""
            """"overflow":"drop_oldest"}'"""
        )
    assert run_journal("import", journal, "t", lines=lines(1)).returncode == 0
    assert version(journal) == VERSION
    assert [event["seq"] for event in exported(journal)] == list(range(1, 32))


def version(directory: Path) -> int:
    with contextlib.closing(sqlite3.connect(directory / "journal.db")) as disk:
        return int(disk.execute("PRAGMA user_version").fetchone()[0])


def set_version(directory: Path, number: int) -> None:
    with contextlib.closing(sqlite3.connect(directory / "journal.db")) as disk:
        disk.execute(f"PRAGMA user_version = {number}")


def test_a_payload_with_line_breaks_is_one_line_of_an_export(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert run_journal("import", path, "t", lines=lines(1)).returncode == 0
    with sqlite3.connect(path / "journal.db") as disk:
        (text,) = disk.execute("SELECT event FROM events").fetchone()
        disk.execute("UPDATE events SET event = ?", (text.replace(b'"x0"', b"[1,\r\n2]"),))
    assert [event["message"]["payload"] for event in exported(path)] == [[1, 2]]


def test_import_goes_on_after_what_is_there(journal: Path) -> None:
    assert run_journal("import", journal, "t", lines=lines(5, "y")).returncode == 0
    assert [event["seq"] for event in exported(journal)] == list(range(1, 36))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no JSON", "line 2: expected an event"),
        ('{"message":{"id":"x","payload":1}}', "line 2: expected an event: message.id: expected a UUID"),
        (json.dumps({"message": {"id": new_id()}}), "line 2: expected an event"),
    ],
    ids=["no JSON", "no UUID", "no payload"],
)
def test_an_import_names_the_line_that_makes_no_sense_and_imports_nothing(journal: Path, line: str, told: str) -> None:
    ended = run_journal("import", journal, "t", lines=lines(1) + line + "\n")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(exported(journal)) == 30


def test_import_to_an_impossible_name_is_refused(journal: Path) -> None:
    ended = run_journal("import", journal, "a b", lines=lines(1))
    assert ended.returncode == 1
    assert ended.stderr.startswith("pubsub journal: topic: expected 1 to 255")


def test_stats(journal: Path) -> None:
    table = run_journal("stats", journal).stdout
    assert table.splitlines()[1].split()[:2] == ["t", "30"]
    (row,) = [json.loads(line) for line in run_journal("stats", journal, "--json").stdout.splitlines()]
    assert (row["topic"], row["messages"], row["seq"]) == ("t", 30, 30)
    assert row["bytes"] == sum(len(json.dumps(event, separators=(",", ":"))) for event in exported(journal))
    assert row["options"]["durable"] is True


@pytest.mark.parametrize(("keep", "left"), [(10, 10), (0, 0), (99, 30)])
def test_trim(journal: Path, keep: int, left: int) -> None:
    ended = run_journal("trim", journal, "t", "--keep", str(keep))
    assert ended.stderr == f"{30 - left} messages of t deleted, {left} kept\n"
    assert [event["seq"] for event in exported(journal)] == list(range(31 - left, 31))
    assert run_journal("check", journal).returncode == 0


def test_check_says_what_is_missing_or_unreadable(journal: Path) -> None:
    assert run_journal("check", journal).stdout == "1 topics, 30 messages, 0 problems\n"
    with sqlite3.connect(journal / "journal.db") as disk:
        disk.execute("DELETE FROM events WHERE key & 0xff = 5")
        disk.execute("UPDATE events SET event = x'7b' WHERE key & 0xff = 9")
        disk.execute("DELETE FROM events WHERE key & 0xff = 30")
    ended = run_journal("check", journal)
    assert ended.returncode == 1
    assert "t: expected #5, got #6" in ended.stdout
    assert "t: #9 can't be read" in ended.stdout
    assert "t: expected #30 to #30, got none" in ended.stdout
    assert ended.stdout.endswith("3 problems\n")


@pytest.mark.parametrize("command", ["check", "stats"])
def test_where_there_is_no_journal(tmp_path: Path, command: str) -> None:
    ended = run_journal(command, tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == f"pubsub journal: {tmp_path}: there is no journal (journal.db)\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["export", "u"], ["trim", "u", "--keep", "1"]], ids=["export", "trim"])
def test_where_there_is_no_such_topic(journal: Path, command: list[str]) -> None:
    ended = run_journal(command[0], journal, *command[1:])
    assert (ended.returncode, ended.stderr) == (1, "pubsub journal: there is no durable topic 'u'\n")


def test_the_directory_is_that_of_the_settings(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pubsub.__main__ import main

    monkeypatch.setenv("DATA_DIR", os.fspath(journal))
    assert main(["journal", "check"]) == 0


@on_one_loop
async def test_a_server_at_work_is_read_beside_and_not_written_beside(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        await make_topic(server)
        assert (await ask(server, "POST", "/topics", TOPIC | {"name": "u"}))[0] == 201
        assert run_journal("check", tmp_path).stdout == "2 topics, 0 messages, 0 problems\n"
        assert exported(tmp_path) == []
        for command in (["import", "t"], ["trim", "t", "--keep", "1"]):
            ended = run_journal(command[0], tmp_path, *command[1:], lines=lines(1))
            assert ended.returncode == 1
            assert "another server uses this journal" in ended.stderr
        assert await read_all(server) == []
        assert (await ask(server, "DELETE", "/topics/u"))[0] == 200
