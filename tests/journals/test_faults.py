"""Crashes, failing disks, damaged files: no acknowledged message is lost, and the server reports each fault."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest

from pubsub.__main__ import main
from pubsub.core.journal import JournalError
from pubsub.journals.store import VERSION, Store
from pubsub.journals.wal import read_frames
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    Client,
    ForkedServer,
    Json,
    RawClient,
    Server,
    ServerProcess,
    clean_environment,
    eventually,
    on_one_loop,
    publish_request,
    run_server,
)

TOPIC = {"name": "t", "durable": True, "history": 1_000_000, "dedup_sec": 600}


def serve(directory: Path) -> ServerProcess:
    return ForkedServer("--data-dir", str(directory))


async def ask(server: Server | ServerProcess, method: str, path: str, body: Any = None) -> tuple[int, Json]:
    client = await RawClient.connect_tcp(server.port)
    try:
        return await client.request(method, path, b"" if body is None else json.dumps(body).encode())
    finally:
        client.close()


async def make_topic(server: Server | ServerProcess) -> None:
    assert (await ask(server, "POST", "/topics", TOPIC))[0] == 201


async def read_all(server: Server | ServerProcess, topic: str = "t") -> list[Json]:
    async with aiohttp.ClientSession(server.url) as http, http.ws_connect("/ws?client_id=reader") as websocket:
        client, found = Client(websocket), list[Json]()
        while True:
            request = {"type": "history", "topic": topic, "after": found[-1]["seq"] if found else 0}
            answer = await client.ask(request)
            found += answer["messages"]
            if len(answer["messages"]) < 1000:
                return found


class Witness:
    """A record of all that publishers and a subscriber saw until the server's end."""

    def __init__(self) -> None:
        self.acked: dict[str, int] = {}
        self.delivered: dict[int, str] = {}
        self.epochs: set[str] = set()

    async def publish(self, url: str) -> None:
        async with aiohttp.ClientSession(url) as http, http.ws_connect("/ws") as websocket:
            sent = 0
            while True:
                for _ in range(20):
                    sent += 1
                    request = publish_request("t", sent)
                    await websocket.send_str(json.dumps(request | {"request_id": request["message"]["id"]}))
                for _ in range(20):
                    message = await websocket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return
                    answer = json.loads(message.data)
                    if answer["type"] == "ack":
                        self.acked[answer["request_id"]] = answer["seq"]

    async def subscribe(self, url: str) -> None:
        async with aiohttp.ClientSession(url) as http, http.ws_connect("/ws") as websocket:
            await websocket.send_str('{"type":"subscribe","topic":"t","client_id":"s","request_id":"s"}')
            async for message in websocket:
                told = json.loads(message.data)
                if told["type"] == "event":
                    self.delivered[told["seq"]] = told["message"]["id"]
                elif told["type"] == "ack":
                    self.epochs.add(told["epoch"])

    async def watch(self, server: ServerProcess, stop: asyncio.Event) -> None:
        """Publish and subscribe until the server ends; set ``stop`` after a random time."""
        tasks = [asyncio.create_task(self.subscribe(server.url))]
        tasks += [asyncio.create_task(self.publish(server.url)) for _ in range(3)]
        before = len(self.acked)
        await eventually(lambda: len(self.acked) >= before + random.randint(1, 400))
        stop.set()
        await asyncio.wait(tasks, timeout=PATIENCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self, events: list[Json]) -> None:
        """Check that every acknowledged or delivered message is there, once, in order, without a gap."""
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        ids = {event["seq"]: event["message"]["id"] for event in events}
        assert len(set(ids.values())) == len(ids)
        for message_id, seq in self.acked.items():
            assert ids[seq] == message_id, "it was acknowledged"
        for seq, message_id in self.delivered.items():
            assert ids[seq] == message_id, "a subscriber has seen it"
        assert len(self.epochs) == 1


@pytest.mark.timeout(180)
@on_one_loop
async def test_row_45_kill_9_while_publishers_are_at_work(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ten rounds on one journal; ``make soak`` has 200."""
    directory = tmp_path_factory.mktemp("journal")
    witness = Witness()
    async with run_server(data_dir=str(directory)) as server:
        await make_topic(server)
    for _ in range(10):
        with serve(directory) as mortal:
            stop = asyncio.Event()
            watching = asyncio.create_task(witness.watch(mortal, stop))
            await stop.wait()
            mortal.process.send_signal(signal.SIGKILL)
            await watching
    async with run_server(data_dir=str(directory)) as server:
        witness.check(await read_all(server))
    assert run_journal("check", directory).returncode == 0


@on_one_loop
async def test_sigterm_acknowledges_what_it_has_stored_and_starts_again_without_a_log(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        await make_topic(server)
        client = await RawClient.connect(server.port)
        for number in range(200):
            await client.send_text(publish_request("t", number) | {"request_id": str(number)})
        assert (await client.receive())["type"] == "ack"
        server.process.send_signal(signal.SIGTERM)
        acked = 1 + sum([message["type"] == "ack" async for message in client.read_messages()])
        assert server.wait() == 0
    assert not (tmp_path / "journal.db-wal").exists()
    async with run_server(data_dir=str(tmp_path)) as next_server:
        assert len(await read_all(next_server)) >= acked


@on_one_loop
async def test_row_47_a_full_disk_costs_no_message_and_heals_by_itself(tmp_path: Path) -> None:
    """A limit on file sizes simulates the full disk: it can be set and removed while the server runs."""
    with serve(tmp_path) as server:
        await make_topic(server)
        await server.create("memory")
        client = await RawClient.connect(server.port)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (400_000, limit[1]))
        acked = await publish_until_refused(client)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, limit[1]))  # no space even for a small one
        _, health = await ask(server, "GET", "/health")
        assert health["status"] == "degraded"
        assert health["reason"]
        await client.send_text(publish_request("memory", 1) | {"request_id": "memory"})
        assert (await client.receive())["type"] == "ack"
        assert (await ask(server, "POST", "/topics", {"name": "u", "durable": True}))[0] == 503
        assert (await ask(server, "DELETE", "/topics/t"))[0] == 503
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limit)
        await healed(server)
        await client.send_text(publish_request("t", "after") | {"request_id": "after"})
        assert (await client.receive())["seq"] == len(acked) + 1
        events = await read_all(server)
        assert [event["message"]["payload"] for event in events[:-1]] == acked
        assert (await ask(server, "POST", "/topics", {"name": "u", "durable": True}))[0] == 201
        server.stop()
    assert server.log.count("Journal fails:") >= 1
    assert "Traceback" not in server.log


async def healed(server: ServerProcess) -> None:
    async with asyncio.timeout(PATIENCE):
        while "status" in (await ask(server, "GET", "/health"))[1]:
            pass


async def publish_until_refused(client: RawClient) -> list[str]:
    """Publish long payloads one by one up to the first refusal; return the acknowledged ones."""
    acked: list[str] = []
    while True:
        payload = f"{len(acked):5}" * 4000
        await client.send_text(publish_request("t", payload) | {"request_id": "r"})
        answer = await client.receive()
        if answer["type"] == "error":
            assert answer["request_id"] == "r"
            assert answer["error"]["code"] == "INTERNAL"
            assert "not stored" in answer["error"]["message"]
            return acked
        acked.append(payload)


@on_one_loop
async def test_a_subscriber_sees_nothing_of_what_was_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        await make_topic(server)
        subscriber, publisher = await RawClient.connect(server.port), await RawClient.connect(server.port)
        await subscriber.subscribe("t")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (400_000, limit[1]))
        acked = await publish_until_refused(publisher)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limit)
        answer: Json = {"type": "error"}
        while answer["type"] == "error":
            await publisher.send_text(publish_request("t", "after"))
            answer = await publisher.receive()
        events = [await subscriber.receive() for _ in range(len(acked) + 1)]
        assert [event["message"]["payload"] for event in events] == [*acked, "after"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


def start(directory: Path) -> subprocess.CompletedProcess[str]:
    """Start a server that is expected to fail."""
    return subprocess.run(
        [sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", str(directory)],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def run_journal(command: str, directory: Path, *more: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``pubsub journal`` in this process, with ``lines`` as its standard input."""
    flags = ["journal", command, "--data-dir", str(directory), *more]
    printed, told = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(told),
        patch.object(sys, "stdin", io.StringIO(lines)),
        databases_closed(),
    ):
        status = main(flags)
    printed.seek(0)
    return subprocess.CompletedProcess(flags, status, printed.read(), told.getvalue())


@contextlib.contextmanager
def databases_closed() -> Iterator[None]:
    """Close the databases that were opened inside, which a program leaves open until it ends."""
    with contextlib.ExitStack() as stack:

        def connect(*place: Any, **options: Any) -> sqlite3.Connection:
            return stack.enter_context(contextlib.closing(sqlite3.Connection(*place, **options)))

        stack.enter_context(patch.object(sqlite3, "connect", connect))
        yield


def refusal(directory: Path) -> str:
    """Return the last line of a server that does not start."""
    ended = start(directory)
    assert ended.returncode == 1, ended
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


async def reason_not_to_start(directory: Path) -> str:
    """Start a server in this loop that fails; return its error, which a program prints as its last line."""
    with pytest.raises(JournalError) as refused:
        async with run_server(data_dir=str(directory)):
            pass
    return str(refused.value)


def make_journal(directory: Path, count: int = 30) -> None:
    """Make a journal with one topic, and with one commit for each message."""
    directory.mkdir(exist_ok=True)
    with sqlite3.connect(":memory:"):
        assert run_journal("import", directory, "t", lines=lines(count)).returncode == 0


def lines(count: int, payload: str = "x") -> str:
    return "".join(json.dumps(publish_request("t", f"{payload}{number}")) + "\n" for number in range(count))


@on_one_loop
async def test_a_second_server_on_the_directory_does_not_start(tmp_path: Path) -> None:
    async with run_server(data_dir=str(tmp_path)) as server:
        await make_topic(server)
        assert "another server uses this journal (DATA_DIR)" in await asyncio.to_thread(refusal, tmp_path)
        assert (await ask(server, "GET", "/health"))[0] == 200
    async with run_server(data_dir=str(tmp_path)) as server:
        assert (await ask(server, "GET", "/topics/t"))[0] == 200


@on_one_loop
async def test_a_second_server_that_began_without_a_journal_can_t_make_a_durable_topic(tmp_path: Path) -> None:
    with serve(tmp_path) as second:
        async with run_server(data_dir=str(tmp_path)) as first:
            await make_topic(first)
            assert (await ask(second, "POST", "/topics", TOPIC))[0] == 503
            assert "another server" in (await ask(second, "GET", "/health"))[1]["reason"]
            await second.create("memory")


@on_one_loop
async def test_a_journal_of_a_later_version_is_refused(tmp_path: Path) -> None:
    make_journal(tmp_path)
    with sqlite3.connect(tmp_path / "journal.db") as disk:
        disk.execute(f"PRAGMA user_version = {VERSION + 1}")
    assert f"version {VERSION + 1} of the journal, this server knows {VERSION}" in await reason_not_to_start(tmp_path)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.db") as disk:
        disk.execute("CREATE TABLE theirs (x)")
    assert "a database of another program" in refusal(tmp_path)
    with sqlite3.connect(tmp_path / "journal.db") as disk:
        assert [name for (name,) in disk.execute("SELECT name FROM sqlite_schema")] == ["theirs"]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
@on_one_loop
async def test_row_46_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    assert "journal.db" in await reason_not_to_start(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == content


async def copy_of_a_stopped_server(directory: Path, name: str, *, messages: int) -> None:
    """Copy the files after this number of messages, each acknowledged, and so committed, before the next."""
    with serve(directory / "data") as server:
        await make_topic(server)
        client = await RawClient.connect(server.port)
        for number in range(messages):
            await client.send_text(publish_request("t", f"{number}") | {"request_id": "r"})
            assert (await client.receive())["type"] == "ack"
        server.process.send_signal(signal.SIGSTOP)
        shutil.copytree(directory / "data", directory / name)


@on_one_loop
async def test_row_46_a_copy_taken_at_any_moment_opens_with_all_that_was_committed(tmp_path: Path) -> None:
    """Power loss: a copy of the files at one moment, with the log cut at any place."""
    await copy_of_a_stopped_server(tmp_path, "whole", messages=40)
    whole = tmp_path / "whole" / "journal.db-wal"
    size = whole.stat().st_size
    for number in range(6):
        copy = tmp_path / f"cut-{number}"
        shutil.copytree(tmp_path / "whole", copy)
        with (copy / "journal.db-wal").open("r+b") as log:
            log.truncate(size - random.randrange(0, 40_000) if number else size)
        async with run_server(data_dir=str(copy)) as server:
            events = await read_all(server)
        assert [event["message"]["payload"] for event in events] == [str(seq) for seq in range(len(events))]
        assert number or len(events) == 40


@on_one_loop
async def test_row_46_a_damaged_log_is_refused_unless_the_damage_may_be_its_unfinished_end(tmp_path: Path) -> None:
    await copy_of_a_stopped_server(tmp_path, "copy", messages=20)
    log = tmp_path / "copy" / "journal.db-wal"
    healthy = log.read_bytes()
    commits = [number for number, each in enumerate(read_frames(log.with_name("journal.db")), 1) if each.commits]
    frame = (len(healthy) - 32) // commits[-1]
    for commit in (commits[5], commits[-2]):
        damaged = bytearray(healthy)
        damaged[32 + (commit - 1) * frame + 100] ^= 0xFF
        log.write_bytes(damaged)
        assert run_journal("stats", tmp_path / "copy").returncode == 0
        assert "commits can't be read" in run_journal("check", tmp_path / "copy").stdout
        for _ in range(2):  # as a supervisor does
            assert "damaged" in await reason_not_to_start(tmp_path / "copy")
        assert log.read_bytes() == damaged
    damaged = bytearray(healthy)
    damaged[32 + (commits[-1] - 1) * frame + 100] ^= 0xFF
    log.write_bytes(damaged)
    async with run_server(data_dir=str(tmp_path / "copy")) as server:
        assert len(await read_all(server)) == 19


def test_a_store_that_is_not_there_is_not_made_by_who_only_reads(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        Store(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []
