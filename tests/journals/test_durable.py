"""Durable topics over real sockets and real disks: acknowledged messages, restarts, crashes, failures."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pubsub.core.catchup import REPLAY_PAGE
from pubsub.http.app_keys import BROKER, CONNECTIONS
from pubsub.journals import DATABASE
from pubsub.journals.operations import Operation, Result
from pubsub.journals.sqlite import UNWRITTEN_BYTES, SqliteJournal
from pubsub.journals.store import APPLICATION_ID, MIGRATIONS, Store
from pubsub.journals.writer import Writer
from pubsub.protocol.frames import LONG_TEXT
from pubsub.system.cores import SharedCore
from pubsub.websocket.connection import READ_AT_ONCE, Connection
from pubsub.websocket.replies import PauseReason
from tests.faults import StillDisk
from tests.harness import (
    PATIENCE,
    Client,
    Json,
    RawClient,
    Server,
    eventually,
    masked_frame,
    publish_request,
    run_server,
)
from tests.simulation import Parts


@pytest.fixture
def data_dir(tmp_path: Path) -> str:
    return str(tmp_path / "data")


async def create(server: Server, name: str = "t", **options: Any) -> None:
    async with server.http.post("/topics", json={"name": name, "durable": True} | options) as response:
        assert response.status == 201, await response.text()


async def publish_many(client: Client, topic: str, count: int, first: int = 1) -> None:
    """Publish payloads from ``first`` on, all in flight at once, and wait for their acks."""
    for payload in range(first, first + count):
        await client.send(publish_request(topic, payload) | {"request_id": f"p{payload}"})
    for payload in range(first, first + count):
        while (answer := await client.receive())["type"] != "ack":
            assert answer["type"] == "event", answer
        assert answer["request_id"] == f"p{payload}"


def payloads(events: list[Json]) -> list[Any]:
    return [event["message"]["payload"] for event in events]


async def kept(server: Server, topic: str = "t") -> list[Json]:
    """Return all messages of a topic, oldest first."""
    async with server.client("reader") as client:
        found: list[Json] = []
        while True:
            answer = await client.ask({"type": "history", "topic": topic, "after": found[-1]["seq"] if found else 0})
            found += answer["messages"]
            if len(answer["messages"]) < 1000:
                return found


async def test_a_topic_its_messages_and_its_numbers_survive_a_restart(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server, history=1000, ttl_sec=3600, dedup_sec=60, overflow="latest")
        async with server.client() as client:
            await publish_many(client, "t", 150)
        before = await server.get("/topics/t")
        events = await kept(server)
    assert payloads(events) == list(range(1, 151))
    async with run_server(data_dir=data_dir) as server:
        assert await server.get("/topics/t") == before
        assert before["options"] == {
            "history": 1000, "ttl_sec": 3600, "durable": True, "dedup_sec": 60, "overflow": "latest",
            "sender": False, "presence": False, "dead_letter": None,
        }  # fmt: skip
        assert await kept(server) == events
        async with server.client() as client:
            assert (await client.publish("t", "next"))["seq"] == 151


async def test_a_database_of_the_first_version_gets_the_options_that_came_later(tmp_path: Path) -> None:
    options = {"history": 5, "ttl_sec": None, "durable": True, "dedup_sec": None, "overflow": "latest"}
    with sqlite3.connect(tmp_path / DATABASE) as disk:
        disk.executescript(f"{MIGRATIONS[0]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
        disk.execute("INSERT INTO topics VALUES (1, 't', 'e', ?, 0, 1, 0)", (json.dumps(options),))
    async with run_server(data_dir=str(tmp_path)) as server:
        shown = (await server.get("/topics/t"))["options"]
    assert shown == options | {"sender": False, "presence": False, "dead_letter": None}


async def test_nothing_is_made_on_disk_without_a_durable_topic(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await server.create("plain")
        async with server.client() as client:
            await client.publish("plain", 1)
    assert not Path(data_dir).exists()  # noqa: ASYNC240 - nothing else runs in this loop now


async def test_a_topic_that_was_deleted_stays_so_and_made_anew_is_another(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server)
        await create(server, "gone")
        async with server.client() as client:
            await client.publish("t", 1)
            epoch = (await client.subscribe("t"))["epoch"]
            assert (await server.http.delete("/topics/t")).status == 200
            assert (await client.receive())["msg"] == "topic_deleted"
            await create(server)
            ack = await client.subscribe("t", last_n=10)
            assert (ack["seq"], ack["epoch"] != epoch) == (0, True)
            assert (await client.publish("t", 2))["seq"] == 1
        assert (await server.http.delete("/topics/gone")).status == 200
        assert (await server.http.delete("/topics/gone")).status == 404
    async with run_server(data_dir=data_dir) as server:
        assert [topic["name"] for topic in (await server.get("/topics"))["topics"]] == ["t"]
        assert payloads(await kept(server)) == [2]


async def test_publishes_that_a_delete_overtakes_are_refused_and_those_before_it_are_delivered(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server)
        async with server.client() as client:
            await client.subscribe("t")
            for payload in range(50):
                await client.send(publish_request("t", payload) | {"request_id": str(payload)})
            await client.sync()
            assert (await server.http.delete("/topics/t")).status == 200
            error = await client.ask(publish_request("t", "late"))
            assert error["error"]["code"] == "TOPIC_NOT_FOUND"
            told = [message.get("msg", message["type"]) for message in client.others]
    assert told.count("ack") == 50
    assert [kind for kind in told if kind != "ack"] == ["event"] * 50 + ["topic_deleted"]


@pytest.mark.parametrize("memory_topic_first", [True, False])
async def test_acks_come_in_the_order_of_the_publishes_whatever_their_topics(
    data_dir: str, memory_topic_first: bool
) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server, "disk")
        await server.create("memory")
        async with server.client() as client:
            topics = ["memory", "disk"] if memory_topic_first else ["disk", "memory"]
            for number in range(40):
                await client.send(publish_request(topics[number % 2], number) | {"request_id": str(number)})
            acks = await client.receive_many(40)
    assert [ack["request_id"] for ack in acks] == [str(number) for number in range(40)]


async def test_an_event_is_delivered_once_the_file_has_it(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server)
        async with server.client() as client:
            await client.subscribe("t")
            await client.send(publish_request("t", "x"))
            while (message := await client.receive())["type"] != "event":
                pass
            with sqlite3.connect(f"file:{data_dir}/journal.db?mode=ro", uri=True) as disk:
                (text,) = disk.execute("SELECT event FROM events").fetchone()
    assert json.loads(text) == message


async def test_duplicates_are_known_after_a_restart_too(data_dir: str) -> None:
    request = publish_request("t", 1)
    async with run_server(data_dir=data_dir) as server:
        await create(server, dedup_sec=600, history=1)
        async with server.client() as client:
            assert (await client.ask(request))["seq"] == 1
            await publish_many(client, "t", 200)
    async with run_server(data_dir=data_dir) as server, server.client() as client:
        again = await client.ask(request)
        assert (again["seq"], again["duplicate"]) == (1, True)
        assert (await server.get("/topics/t"))["seq"] == 201


async def test_two_publishes_of_one_id_in_one_group_are_one_message(data_dir: str) -> None:
    request = publish_request("t", 1)
    async with run_server(data_dir=data_dir) as server:
        await create(server, dedup_sec=600)
        async with server.client() as client:
            for number in range(3):
                await client.send(request | {"request_id": str(number)})
            acks = await client.receive_many(3)
    assert [(ack["seq"], ack.get("duplicate")) for ack in acks] == [(1, None), (1, True), (1, True)]


async def test_row_40_a_long_replay_is_read_from_disk_and_meets_what_is_live_without_a_seam(data_dir: str) -> None:
    """While a client publishes all the time, a new subscriber gets each message from the first one on, once."""
    async with run_server(data_dir=data_dir, ring_buffer_size=50) as server:
        await create(server, history=100_000)
        async with server.client("p") as publisher, server.client("s") as subscriber:
            await publish_many(publisher, "t", 2 * REPLAY_PAGE)
            ack = await subscriber.subscribe(
                "t", resume={"t": {"epoch": (await server.get("/topics/t"))["epoch"], "seq": 0}}
            )
            assert ack["recovered"] is True
            await publish_many(publisher, "t", 2 * REPLAY_PAGE, first=2 * REPLAY_PAGE + 1)
            events = await subscriber.receive_many(4 * REPLAY_PAGE)
    assert [event["seq"] for event in events] == list(range(1, 4 * REPLAY_PAGE + 1))
    assert payloads(events) == list(range(1, 4 * REPLAY_PAGE + 1))


async def test_row_40_what_is_on_the_disk_and_not_yet_delivered_is_not_read(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading thread sees a group before the loop does: no subscriber gets its messages twice or too early."""
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server:
        await create(server, history=1000)
        async with server.client("p") as publisher, server.client("s") as subscriber:
            await publish_many(publisher, "t", 100)
            epoch = (await server.get("/topics/t"))["epoch"]
            journal = server.app[BROKER].durable_journal
            assert isinstance(journal, SqliteJournal)
            held: list[tuple[Sequence[Operation], Result]] = []
            with monkeypatch.context() as holding:
                holding.setattr(journal, "_end_group", lambda group, result: held.append((group, result)))
                await publisher.send(publish_request("t", 101))
                await eventually(lambda: bool(held))
                ack = await subscriber.subscribe("t", resume={"t": {"epoch": epoch, "seq": 50}})
                assert (ack["seq"], ack["recovered"]) == (100, True)
                answer = await subscriber.ask({"type": "history", "topic": "t", "after": 50})
                assert payloads(answer["messages"]) == list(range(51, 101))
                assert answer["complete"] is True
                replayed, subscriber.others = subscriber.others, []
                assert payloads(replayed) == list(range(51, 101))
            journal._end_group(*held[0])
            assert (await subscriber.receive())["seq"] == 101
            await subscriber.ask({"type": "ping"})
            assert subscriber.others == []


async def test_a_history_that_the_end_of_its_topic_overtakes_finds_no_topic(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may by now have another topic at that place."""
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server, server.client() as client:
        await create(server, history=1000)
        await publish_many(client, "t", 100)
        disk = StillDisk(monkeypatch, Store, "read")
        asking = asyncio.create_task(client.ask({"type": "history", "topic": "t", "after": 0}))
        await eventually(disk.asked.is_set)
        async with server.http.delete("/topics/t") as response:
            assert response.status == 200
        disk.works.set()
        assert (await asking)["error"]["code"] == "TOPIC_NOT_FOUND"


async def test_a_subscriber_that_takes_its_long_replay_slowly_costs_no_memory_and_gets_all_of_it(data_dir: str) -> None:
    count, text = 600, "x" * 20_000
    async with run_server(data_dir=data_dir, ring_buffer_size=10, send_buffer=1 << 16) as server:
        await create(server, history=10_000)
        async with server.client("p") as publisher:
            await publish_many(publisher, "t", count)
            for number in range(count):
                await publisher.send(publish_request("t", text) | {"request_id": str(number)})
            await publisher.receive_many(count)
            slow = await RawClient.connect(server.port, receive_buffer=1 << 14)
            await slow.send_text({"type": "subscribe", "topic": "t", "client_id": "raw", "last_n": 2 * count})
            assert (await slow.receive())["type"] == "ack"
            clients = (await server.get("/clients"))["clients"]
            assert [row["subscriptions"] for row in clients if row["client_id"] == "raw"] == [["t"]]
            assert sum(row["queued"] for row in clients) <= REPLAY_PAGE
            assert (await publisher.publish("t", "live"))["seq"] == 2 * count + 1
            seqs = [(await slow.receive())["seq"] for _ in range(2 * count + 1)]
    assert seqs == list(range(1, 2 * count + 2))


async def test_unsubscribing_in_the_middle_of_a_long_replay_ends_it(data_dir: str) -> None:
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server:
        await create(server, history=10_000)
        async with server.client() as client:
            await publish_many(client, "t", 3 * REPLAY_PAGE)
            await client.send({"type": "subscribe", "topic": "t", "client_id": "tester", "last_n": 3 * REPLAY_PAGE})
            assert (await client.ask({"type": "unsubscribe", "topic": "t", "client_id": "tester"}))["type"] == "ack"
            assert (await server.get("/topics/t"))["subscribers"] == 0
            client.others.clear()
            await client.publish("t", "last")
            assert client.others == []


async def test_subscribing_again_in_the_middle_of_a_long_replay_replaces_it(data_dir: str) -> None:
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server:
        await create(server, history=10_000)
        async with server.client() as client:
            await publish_many(client, "t", 3 * REPLAY_PAGE)
            await client.send({"type": "subscribe", "topic": "t", "client_id": "tester", "last_n": 3 * REPLAY_PAGE})
            ack = await client.subscribe("t", last_n=1)
            assert ack["seq"] == 3 * REPLAY_PAGE
            assert (await client.receive())["seq"] == 3 * REPLAY_PAGE
            await client.publish("t", "live")
            live = next(message for message in client.others if message.get("seq") == 3 * REPLAY_PAGE + 1)
            assert live["message"]["payload"] == "live"
            assert (await server.get("/topics/t"))["subscribers"] == 1


async def test_history_reaches_into_the_file_and_over_into_the_ring(data_dir: str) -> None:
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server:
        await create(server, history=100)
        async with server.client() as client:
            await publish_many(client, "t", 150)
            for after, limit, first, last, complete in (
                (50, 1000, 51, 150, True),
                (60, 5, 61, 65, True),
                (135, 10, 136, 145, True),
                (149, 10, 150, 150, True),
                (0, 20, 51, 70, False),
            ):
                answer = await client.ask({"type": "history", "topic": "t", "after": after, "limit": limit})
                assert payloads(answer["messages"]) == list(range(first, last + 1))
                assert answer["complete"] is complete


async def test_what_is_beyond_the_history_goes_from_the_disk(data_dir: str) -> None:
    async with run_server(data_dir=data_dir, ring_buffer_size=10) as server:
        await create(server, history=50)
        async with server.client() as client:
            await publish_many(client, "t", 1000)
        assert payloads(await kept(server)) == list(range(951, 1001))
    with sqlite3.connect(f"file:{data_dir}/journal.db?mode=ro", uri=True) as disk:
        assert disk.execute("SELECT count(*) FROM events").fetchone()[0] < 500
        assert disk.execute("SELECT bytes = (SELECT sum(length(event)) FROM events) FROM topics").fetchone() == (1,)


async def test_row_44_expired_messages_are_gone_after_a_restart_and_from_the_disk(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server, ttl_sec=0.2)
        await create(server, "kept", history=10)
        async with server.client() as client:
            await client.publish("t", 1)
            await client.ask(publish_request("kept", 1) | {"ttl_sec": 0.2})
            await client.publish("kept", 2)
        await asyncio.sleep(0.25)  # the time of expiry must really be over
    async with run_server(data_dir=data_dir) as server:
        assert payloads(await kept(server)) == []
        assert payloads(await kept(server, "kept")) == [2]
        async with server.client() as client:
            epoch = (await server.get("/topics/kept"))["epoch"]
            ack = await client.subscribe("kept", resume={"kept": {"epoch": epoch, "seq": 0}})
            assert ack["recovered"] is False
            assert [message.get("count", message.get("seq")) for message in await client.receive_many(2)] == [1, 2]
            topic = server.app[BROKER].find_topic("t")
            await eventually(lambda: topic.stored_bytes == 0)
            assert (await client.publish("t", "next"))["seq"] == 2


@pytest.mark.parametrize("seq", [10, 50])
async def test_a_resume_into_the_file_of_an_expiring_topic_knows_what_has_expired(data_dir: str, seq: int) -> None:
    async with run_server(data_dir=data_dir, ring_buffer_size=5) as server:
        await create(server, history=1000, ttl_sec=1000)
        async with server.client() as client:
            await publish_many(client, "t", 20)
            await client.ask(publish_request("t", 21) | {"ttl_sec": 0.05})
            await publish_many(client, "t", 59, first=22)
            epoch = (await server.get("/topics/t"))["epoch"]
            await asyncio.sleep(0.06)  # the 21st must really have expired
            ack = await client.subscribe("t", resume={"t": {"epoch": epoch, "seq": seq}})
            assert ack["recovered"] is (seq == 50)
            missed = set(range(seq + 1, 81))
            while missed:
                message = await client.receive()
                missed -= {message["seq"]} if message["type"] == "event" else {message["from_seq"]}
                if message["type"] == "info":
                    assert (message["from_seq"], message["to_seq"]) == (21, 21)
            assert (await client.ask({"type": "ping"}))["type"] == "pong"


async def test_row_37_a_disk_that_stands_still_holds_its_publishers_and_no_one_else(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, text = 64, "x" * 900_000
    async with run_server(data_dir=data_dir) as server:
        await create(server)
        await server.create("memory")
        disk = StillDisk(monkeypatch, Writer, "write")
        journal = server.app[BROKER].durable_journal
        assert isinstance(journal, SqliteJournal)
        async with server.client("p") as publisher, server.client("other") as other:
            sending = asyncio.create_task(send_many(publisher, count, text))
            await eventually(lambda: bool(journal._when_writable))
            assert not sending.done(), "the server no longer reads from the publishers"
            assert UNWRITTEN_BYTES < journal._results.pending_bytes < UNWRITTEN_BYTES + 2 * len(text)
            await other.subscribe("memory")
            await other.publish("memory", 1)
            assert (await server.get("/health"))["topics"] == 2
            disk.works.set()
            answers = await publisher.receive_many(count)
            await sending
        assert [answer["request_id"] for answer in answers] == [str(number) for number in range(count)]
        assert {answer["type"] for answer in answers} == {"ack"}


# A thread that is always busy and shares no lock, and the writing thread beside it; both on one core.
ONE_CORE = """
import os, sys, time
from pathlib import Path
from pubsub.core.clock import Clock
from pubsub.journals.sqlite import SqliteJournal
from pubsub.protocol.requests import TopicOptions
from pubsub.system.cores import SharedCore

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
posted = []
core = SharedCore()
journal = SqliteJournal(
    Path(sys.argv[1]),
    Clock(),
    core,
    post=posted.append,
    defer=lambda callback: callback(),
    call_later=lambda delay, callback: None,
)

class Host:
    def add_topic(self, stored): pass

    def trim(self, topic, first, size): pass

journal.attach(Host())

def create(name):
    journal.create(name, TopicOptions(durable=True, history=1), print)

create("starts-the-thread")
while not posted:
    time.sleep(0.001)
posted.pop()()
sys.setswitchinterval(1000)
create("t")
ends = time.monotonic() + float(sys.argv[2])
while not posted and time.monotonic() < ends:
    core.offer()
posted.pop()()
"""


def test_a_loop_that_never_rests_lets_the_writing_thread_have_lock_and_core(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_CORE, str(tmp_path), str(PATIENCE)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\nNone\n"


async def test_the_writing_thread_is_let_through_before_work_that_takes_long(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[SharedCore] = []
    monkeypatch.setattr(SharedCore, "offer", lambda core: calls.append(core))
    async with run_server(data_dir=data_dir) as server, server.client() as client:
        await create(server)
        raw = await RawClient.connect(server.port)
        ping = masked_frame(0x81, b'{"type":"ping","client_id":"raw"}')

        async def calls_of(work: Awaitable[object]) -> int:
            before = len(calls)
            await work
            return len(calls) - before

        assert await calls_of(server.get("/health")) == 1
        assert await calls_of(client.publish("t", "x" * LONG_TEXT)) == 2
        assert await calls_of(client.publish("t", "x")) == 0
        await raw.send(ping * 20)
        for _ in range(20):
            await raw.receive()
        assert len(calls) >= 7, "one call for five requests"


async def send_many(client: Client, count: int, payload: str) -> None:
    for number in range(count):
        await client.send(publish_request("t", payload) | {"request_id": str(number)})


async def test_a_bug_in_the_writer_refuses_its_group_and_is_logged(
    data_dir: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_server(data_dir=data_dir) as server, server.client() as client:
        await create(server)

        def fail(*arguments: object) -> None:
            raise ZeroDivisionError("secret")

        with monkeypatch.context() as broken:
            broken.setattr(Writer, "_append", fail)
            error = await client.ask(publish_request("t", 1))
        assert error["error"] == {"code": "INTERNAL", "message": "not stored: the server's journal fails"}
        assert "ZeroDivisionError" in caplog.text
        assert (await client.publish("t", 2))["seq"] == 1
        assert payloads(await kept(server)) == [2]


async def test_a_resume_knows_what_the_disk_let_go_of_before_the_news_of_it_came(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server, history=1000)
        async with server.client() as client:
            await publish_many(client, "t", 300)
            epoch = (await server.get("/topics/t"))["epoch"]
            with sqlite3.connect(Path(data_dir) / "journal.db") as disk:
                disk.execute("DELETE FROM events WHERE key IN (SELECT key FROM events ORDER BY key LIMIT 50)")
            await client.send(
                {"type": "subscribe", "topic": "t", "client_id": "c", "resume": {"t": {"epoch": epoch, "seq": 20}}}
            )
            assert (await client.receive())["recovered"] is False
            gap = await client.receive()
            assert (gap["msg"], gap["from_seq"], gap["to_seq"]) == ("dropped", 21, 50)


async def test_a_damaged_event_is_an_error_and_keeps_nobody_waiting(data_dir: str) -> None:
    async with run_server(data_dir=data_dir) as server:
        await create(server, history=1000)
        async with server.client() as client:
            await publish_many(client, "t", 300)
            with sqlite3.connect(Path(data_dir) / "journal.db") as disk:
                disk.execute("UPDATE events SET event = x'1e' WHERE key = (SELECT min(key) FROM events)")
            error = await client.ask({"type": "history", "topic": "t", "after": 0})
            assert error["error"]["code"] == "INTERNAL"
            assert (await client.ask({"type": "ping"}))["type"] == "pong"


async def test_answers_that_wait_for_an_earlier_publish_are_bounded(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk delays one publish; many others after it could be answered at once."""
    monkeypatch.setattr("pubsub.websocket.outcomes.MAX_WAITING", 50)
    async with run_server(data_dir=data_dir) as server:
        await create(server)
        await server.create("memory")
        disk = StillDisk(monkeypatch, Writer, "write")
        async with server.client() as client:
            await client.send(publish_request("t", 0) | {"request_id": "0"})
            for number in range(1, 200):
                await client.send(publish_request("memory", number) | {"request_id": str(number)})
            topic = server.app[BROKER].find_topic("memory")
            await eventually(lambda: topic.seq >= 49)
            await server.get("/health")
            assert topic.seq < 49 + READ_AT_ONCE, "nothing more is read"
            disk.works.set()
            answers = await client.receive_many(200)
    assert [answer["request_id"] for answer in answers] == [str(number) for number in range(200)]


async def test_row_61_several_reasons_to_hold_a_client_at_once_leave_its_answers_in_order(
    data_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delayed publishes end while a history waits: each resume removes only its own reason for a pause."""
    monkeypatch.setattr("pubsub.websocket.outcomes.MAX_WAITING", 50)
    async with run_server(data_dir=data_dir, ring_buffer_size=1) as server, server.client() as client:
        await create(server, history=1000)
        await publish_many(client, "t", 10)
        writing, reading = StillDisk(monkeypatch, Writer, "write"), StillDisk(monkeypatch, Store, "read")
        for number in range(50):
            await client.send(publish_request("t", number) | {"request_id": "p"})
        await client.send({"type": "history", "topic": "t", "after": 0, "request_id": "1"})
        await client.send({"type": "ping", "request_id": "2"})
        await client.send({"type": "subscribe", "topic": "t", "client_id": "tester", "request_id": "3"})
        writing.works.set()
        await eventually(reading.asked.is_set)
        topic = server.app[BROKER].find_topic("t")
        await eventually(lambda: topic.seq == 60)
        reading.works.set()
        answers = await client.receive_many(53)
    assert [answer["request_id"] for answer in answers] == ["p"] * 50 + ["1", "2", "3"]


async def test_publishes_that_wait_for_the_disk_are_bounded(data_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.websocket.outcomes.MAX_WAITING", 50)
    async with run_server(data_dir=data_dir) as server, server.client() as client:
        await create(server)
        await server.create("memory")
        disk = StillDisk(monkeypatch, Writer, "write")
        for number in range(50):
            await client.send(publish_request("t", number) | {"request_id": str(number)})
        (connection,) = server.app[CONNECTIONS].page(0, 9)
        assert isinstance(connection, Connection)
        await eventually(lambda: bool(connection._pauses))
        await client.send(publish_request("memory", 50) | {"request_id": "50"})
        async with server.client("other") as other:
            await other.sync()
        await server.get("/health")
        assert server.app[BROKER].find_topic("memory").seq == 0, "nothing more is read"
        disk.works.set()
        answers = await client.receive_many(51)
    assert [answer["request_id"] for answer in answers] == [str(number) for number in range(51)]


async def test_row_60_who_waits_for_the_journal_and_does_not_read_is_dropped(
    data_dir: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer waits until it has read the pages of its replay: the client itself causes the wait."""
    async with run_server(data_dir=data_dir, ring_buffer_size=10, write_wait_sec=0.5, send_buffer=1 << 16) as server:
        await create(server, history=10_000)
        async with server.client("p") as publisher:
            for _ in range(300):
                await publisher.send(publish_request("t", "x" * 20_000))
            await publisher.receive_many(300)
            stalled = await RawClient.connect(server.port, receive_buffer=1 << 14)
            await stalled.send_text({"type": "subscribe", "topic": "t", "client_id": "raw", "last_n": 300})
            await eventually(lambda: server.connections == 1)
            assert caplog.text.count("Slow consumer detected: client_id=raw") == 1
            await publisher.sync()


def test_row_60_a_held_client_that_keeps_its_own_answer_waiting_is_not_taken_for_alive() -> None:
    """The identity provider answers while the client does not read; that does not count as activity of the client."""
    parts = Parts(Random(0))
    connection = parts.connect("waiting").connection
    assert connection is not None
    connection.pause(PauseReason.ANSWER)
    parts.loop.pass_time(500)
    assert connection.last_activity(500) == 500, "it waits for the server"
    connection.pause_writing()
    connection.subscriber.call_when_ready(lambda: None)
    parts.loop.pass_time(300)
    assert connection.last_activity(800) == 500, "the server waits for it"
