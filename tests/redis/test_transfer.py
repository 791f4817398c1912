"""``pubsub journal copy``: topics move between a real Redis and a directory, whole or not at all, and as they are."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pubsub.__main__ import main
from pubsub.cli.journal_copy import copy, open_side
from pubsub.core.journal import JournalError
from pubsub.journals import DATABASE
from pubsub.journals.directory_lock import DirectoryLock
from pubsub.journals.redis.address import parse_address
from pubsub.journals.redis.transfer import RedisDraft, RedisSide, seconds_ahead
from pubsub.journals.store import MAX_SEQ, SEQ_BITS, Store
from pubsub.journals.transfer.copying import Copied, copy_topics
from pubsub.journals.transfer.moved import Contents, MovedEvent, MovedTopic
from pubsub.journals.transfer.sqlite import SqliteDraft, SqliteSide
from tests.cli.running import create
from tests.harness import PATIENCE, REPOSITORY, ForkedServer, ServerProcess, clean_environment, new_id, on_one_loop
from tests.journals.test_faults import run_journal
from tests.redis.driver import Driver, prefixes, publish
from tests.redis.programs import RedisServer

IDS = [new_id() for _ in range(20)]
TOPICS = ["empty", "mixed", "plain.ids", "plain.numbers", "purged", "short"]
COUNT = 0 + 2 + 20 + 50 + 1 + 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a journal with a topic of each kind, by a server."""
    directory = tmp_path_factory.mktemp("journal")
    with ForkedServer("--data-dir", str(directory)) as server:
        kinds: dict[str, dict[str, Any]] = {
            "empty": {},
            "mixed": {},
            "plain.ids": {"dedup_sec": 600},
            "plain.numbers": {"history": 50},
            "purged": {},
            "short": {"ttl_sec": 1000, "dedup_sec": 0.001},
            "deleted": {},
        }
        for name, options in kinds.items():
            create(server, name, durable=True, **options)
        post(server, "mixed", [{"payload": '\u2028"\\'}, {"payload": "ends", "ttl_sec": 0.001}])
        post(server, "plain.ids", [{"id": id.upper(), "payload": number} for number, id in enumerate(IDS)])
        post(server, "plain.numbers", [{"payload": number} for number in range(70)])
        post(server, "purged", [{"payload": "gone"}])
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/topics/purged/messages", method="DELETE")).close()
        post(server, "purged", [{"payload": "kept"}])
        post(server, "short", [{"payload": "long"}, {"payload": "short", "ttl_sec": 500}])
        urllib.request.urlopen(urllib.request.Request(f"{server.url}/topics/deleted", method="DELETE")).close()
        assert server.stop() == 0
    return directory


@pytest.fixture
def disk(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "disk"))


def post(server: ServerProcess, topic: str, messages: list[dict[str, Any]]) -> list[int]:
    body = json.dumps(messages).encode()
    with urllib.request.urlopen(f"{server.url}/topics/{topic}/messages", body, timeout=PATIENCE) as response:
        found: list[int] = json.load(response)["seq"]
        return found


def events(server: ServerProcess, topic: str) -> Any:
    with urllib.request.urlopen(f"{server.url}/topics/{topic}/messages?last_n=100", timeout=PATIENCE) as response:
        return json.load(response)


def rows(directory: Path) -> list[list[Any]]:
    """Return all that a database has of topics, their messages and ids, without the numbers of the topics."""
    oldest = "max(first, seq - json_extract(options, '$.history') + 1)"
    with sqlite3.connect(directory / DATABASE) as connection:
        found = [connection.execute(statement).fetchall() for statement in (
            f"SELECT name, epoch, options, seq, {oldest} FROM topics WHERE name IS NOT NULL ORDER BY name",
            f"SELECT name, key & {MAX_SEQ} AS place, event, events.expires FROM events JOIN topics "
            f"ON number = key >> {SEQ_BITS} WHERE name IS NOT NULL AND place >= {oldest} ORDER BY name, place",
            f"SELECT name, key & {MAX_SEQ} AS place, id, seen.expires FROM seen JOIN topics "
            f"ON number = key >> {SEQ_BITS} WHERE seen.expires > {time.time()} ORDER BY name, place",
        )]  # fmt: skip
    connection.close()
    found[1] = [(*row, end and round(end, 3)) for *row, end in found[1]]
    return found


def journal_copy(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pubsub", "journal", "copy", *map(str, arguments)],
        cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=3 * PATIENCE, check=False,
    )  # fmt: skip


@on_one_loop
async def test_all_is_the_same_after_a_way_there_and_back(disk: Path, url: str, tmp_path: Path) -> None:
    expected = Copied(topics=len(TOPICS), events=COUNT, ids=len(IDS))
    assert await copy(str(disk), url, []) == expected
    assert await copy(url, f"{url}-other", []) == expected
    assert await copy(f"{url}-other", str(tmp_path / "back"), []) == expected
    assert await copy(str(tmp_path / "back"), str(tmp_path / "again"), []) == expected
    assert rows(tmp_path / "back") == rows(disk) == rows(tmp_path / "again")
    assert [name for name, *_ in rows(disk)[0]] == TOPICS
    assert run_journal("check", tmp_path / "back").stdout == f"{len(TOPICS)} topics, {COUNT} messages, 0 problems\n"


def test_server_goes_on_where_the_other_one_stopped(disk: Path, url: str, tmp_path: Path) -> None:
    with ForkedServer("--data-dir", str(disk)) as server:
        before = {topic: events(server, topic) for topic in TOPICS}
        assert server.stop() == 0
    done = journal_copy(disk, url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"{len(TOPICS)} topics, {COUNT} messages, {len(IDS)} ids copied\n")
    with ForkedServer("--journal-url", url) as server:
        assert {topic: events(server, topic) for topic in TOPICS} == before
        assert post(server, "plain.ids", [{"id": IDS[3], "payload": 3}, {"payload": "new"}]) == [4, 21]
        busy = journal_copy(url, tmp_path / "back")
        assert (busy.returncode, "expected a journal that no server uses, got one with 1" in busy.stderr) == (1, True)
        assert server.stop() == 0
    assert journal_copy(url, tmp_path / "back").returncode == 0
    with ForkedServer("--data-dir", str(tmp_path / "back")) as server:
        assert post(server, "plain.ids", [{"id": IDS[3], "payload": 3}, {"payload": "newer"}]) == [4, 22]
        after = events(server, "plain.ids")
        assert after["epoch"] == before["plain.ids"]["epoch"]
        assert [each["message"]["payload"] for each in after["messages"]] == [*range(20), "new", "newer"]


@on_one_loop
async def test_times_to_live_go_on_beside_another_clock(
    disk: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await copy(str(disk), url, [])
    monkeypatch.setattr("pubsub.journals.redis.transfer.time", SimpleNamespace(time=lambda: time.time() + 100))
    await copy(url, str(tmp_path / "back"), [])
    _, before, ids = rows(disk)
    _, after, ids_after = rows(tmp_path / "back")
    assert [end for *_, end in after] == [end and end + 100 for *_, end in before]
    assert [round(end, 3) for *_, end in ids_after] == [round(end + 100, 3) for *_, end in ids]
    await copy(str(tmp_path / "back"), f"{url}-other", [])
    monkeypatch.undo()
    assert (await copy(f"{url}-other", str(disk), [])).equal == len(TOPICS)


@pytest.mark.parametrize(
    ("asked_at", "there", "answered_at", "ahead"),
    [(10, 10.1, 10.2, 0), (10, 10.1, 14, 0), (10, 13.9, 14, 0), (110, 10.1, 110.2, 100), (10, 110.1, 10.2, -100)],
)
def test_wait_for_an_answer_is_no_difference_of_clocks(
    asked_at: float, there: float, answered_at: float, ahead: int
) -> None:
    assert seconds_ahead(asked_at, there, answered_at) == ahead


@on_one_loop
async def test_running_servers_are_told_of_a_copied_topic(disk: Path, driver: Driver, url: str) -> None:
    await copy(str(disk), url, ["plain.>"])
    (state,) = driver.states("plain.numbers")
    assert (state.seq, state.first, state.base) == (70, 21, 0)
    assert driver.states("short") == []
    (outcome,) = await driver.publish(publish(), name="plain.numbers")
    assert outcome.seq == 71


@on_one_loop
async def test_a_topic_that_is_another_is_left_alone(disk: Path, url: str) -> None:
    async with Driver.run(url) as driver:
        await driver.create("mixed")
        await driver.publish(publish("other"), name="mixed")
    with pytest.raises(JournalError, match=r"has another topic 'mixed' .* Nothing was copied"):
        await copy(str(disk), url, [])
    assert [topic.name for topic in await topics_of(url)] == ["mixed"]
    assert (await copy(str(disk), url, ["plain.*", "empty"])).topics == 3
    again = await copy(str(disk), url, ["plain.*", "short"])
    assert (again.topics, again.equal) == (1, 2)


async def topics_of(text: str) -> Sequence[MovedTopic]:
    side = await open_side(text, writes=False)
    try:
        return await side.topics()
    finally:
        await side.close()


@on_one_loop
async def test_equal_numbers_with_other_messages_are_noticed(disk: Path, url: str) -> None:
    await copy(str(disk), url, [])
    with sqlite3.connect(disk / DATABASE) as connection:
        connection.execute("""UPDATE events SET event = CAST(replace(event, ':17}', ':18}') AS BLOB)""")
    connection.close()
    with pytest.raises(JournalError, match="same epoch and seq, and other messages or ids"):
        await copy(str(disk), url, [])


class Interrupted(Exception):
    pass


class Fragile:
    """The contents of a topic, whose reading is interrupted after a page."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    async def events(self) -> AsyncIterator[Sequence[MovedEvent]]:
        async for page in self._contents.events():
            yield page[: len(page) // 2]
            raise Interrupted

    ids = None


@pytest.fixture(params=["redis", "disk"])
def target(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> str:
    return redis_server.url(next(prefixes)) if request.param == "redis" else str(tmp_path / "target")


@on_one_loop
async def test_an_interrupted_topic_is_not_there_and_copied_again(
    disk: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SqliteSide.contents

    def contents(self: SqliteSide, topic: MovedTopic) -> Any:
        found = whole(self, topic)
        return Fragile(found) if topic.name == "plain.numbers" else found

    monkeypatch.setattr(SqliteSide, "contents", contents)
    with pytest.raises(Interrupted):
        await copy(str(disk), target, ["plain.>"])
    monkeypatch.undo()
    assert [topic.name for topic in await topics_of(target)] == ["plain.ids"]
    again = await copy(str(disk), target, ["plain.>"])
    assert (again.topics, again.equal) == (1, 1)


@on_one_loop
async def test_a_full_disk_takes_no_topic_in_part(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = Store.insert_seen

    def undo(self: Store, rows: Any) -> None:
        self._connection.execute("ROLLBACK")  # as SQLite does by itself, with the topics before it in the transaction
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "insert_seen", undo)
    target = tmp_path / "target"
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        await copy(str(disk), str(target), [])
    assert await topics_of(str(target)) == []
    monkeypatch.setattr(Store, "insert_seen", insert)
    assert (await copy(str(disk), str(target), [])).topics == len(TOPICS)
    assert rows(target) == rows(disk)


@pytest.mark.parametrize("kind", [RedisDraft, SqliteDraft], ids=["redis", "disk"])
@on_one_loop
async def test_a_copy_that_differs_is_not_there(
    kind: type[Any], disk: Path, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = kind.add_events

    async def change(self: Any, page: Sequence[MovedEvent]) -> None:
        await add(self, [MovedEvent(each.seq, each.id, b"0", each.ts, each.sender, each.expires) for each in page])

    target = redis_server.url(next(prefixes)) if kind is RedisDraft else str(tmp_path / "target")
    monkeypatch.setattr(kind, "add_events", change)
    with pytest.raises(JournalError, match="what was written is not what is there; not copied"):
        await copy(str(disk), target, ["mixed"])
    assert await topics_of(target) == []


@on_one_loop
async def test_a_server_that_creates_the_topic_meanwhile_wins(disk: Path, driver: Driver, url: str) -> None:
    source = await open_side(str(disk), writes=False)
    target = await RedisSide.open(parse_address(url), writes=True)
    begin = target.begin

    async def begin_late(topic: MovedTopic) -> RedisDraft:
        draft = await begin(topic)
        await driver.create(topic.name)
        return draft

    target.begin = begin_late  # type: ignore[method-assign]
    try:
        with pytest.raises(JournalError, match="topic 'mixed': EXISTS"):
            await copy_topics(source, target, ["mixed"], time.time(), lambda line: None)
    finally:
        await source.close()
        await target.close()
    assert driver.states("mixed")[-1].seq == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a journal with 20 topics of 2,000 messages."""
    directory = tmp_path_factory.mktemp("many")
    with ForkedServer("--data-dir", str(directory), "--rate-limit-msgs-per-sec", "0") as server:
        for number in range(20):
            create(server, f"t.{number}", durable=True, history=2000)
            for _ in range(2):
                post(server, f"t.{number}", [{"payload": number}] * 1000)
        assert server.stop() == 0
    return directory


def test_a_killed_copy_has_whole_topics_alone(many: Path, target: str) -> None:
    command = [sys.executable, "-m", "pubsub", "journal", "copy", str(many), target]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    again = journal_copy(many, target)
    assert again.returncode == 0, again.stderr
    equal = again.stdout.count("is there already, and equal")
    assert len(told) <= equal <= len(told) + 1
    assert again.stdout.endswith(f"{20 - equal} topics, {2000 * (20 - equal)} messages, 0 ids copied; "
                                 f"{equal} topics were there already\n")  # fmt: skip


def test_a_server_removes_what_a_killed_copy_has_left(disk: Path, tmp_path: Path) -> None:
    target = SqliteSide(tmp_path / "target", writes=True)
    SqliteDraft(target._changes, MovedTopic("t", "e", None, 5, 1, 0))  # type: ignore[arg-type]
    target._changes.commit()
    target._store.close()
    target._lock.release()
    with ForkedServer("--data-dir", str(tmp_path / "target")) as server:
        wait_until_gone(tmp_path / "target")
        assert server.stop() == 0


def wait_until_gone(directory: Path) -> None:
    end = time.monotonic() + PATIENCE
    with sqlite3.connect(directory / DATABASE) as connection:
        while connection.execute("SELECT count(*) FROM topics").fetchone() != (0,):
            assert time.monotonic() < end
            time.sleep(0.01)
    connection.close()


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("nowhere", "x", "nowhere: there is no such directory"),
        ("empty", "x", "there is no journal"),
        ("disk", "disk", "another server uses this journal"),
        ("http://x", "x", "expected a scheme of redis"),
        ("disk", "unix:/x", "expected a scheme of redis"),
        ("disk", "redis://:secret@127.0.0.1:1", "Redis at 127.0.0.1:1"),
        ("URL", "x", "there is no journal with the prefix"),
    ],
)
def test_each_mistake_is_one_line(
    disk: Path, url: str, capsys: pytest.CaptureFixture[str], source: str, target: str, expected: str
) -> None:
    (disk.parent / "empty").mkdir()
    places = {"nowhere": disk.parent / "nowhere", "empty": disk.parent / "empty", "disk": disk, "URL": url}
    places["x"] = disk.parent / "x"
    assert main(["journal", "copy", str(places.get(source, source)), str(places.get(target, target))]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert expected in told
    assert "secret" not in told


@on_one_loop
async def test_a_directory_in_use_is_left_alone(disk: Path, url: str) -> None:
    lock = DirectoryLock(disk)
    with pytest.raises(JournalError, match="another server uses this journal"):
        await copy(str(disk), url, [])
    lock.release()


@on_one_loop
async def test_topics_that_are_not_durable_are_left_out(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Driver.run(url) as driver:
        await driver.create("short.lived")
        await driver.create("lasting", durable=True)
    assert (await copy(url, str(tmp_path / "target"), [])).topics == 1
    assert "short.lived: left out, because it is not durable" in capsys.readouterr().out
