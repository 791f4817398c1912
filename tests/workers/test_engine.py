"""The engine of workers: what the owner decides comes to all of them, once and in one order."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pubsub.core.log import Assignment
from pubsub.journals.shared.engine import Appended, Create, Delete, Deleted, Known, Purge, Purged, Tell, Told
from pubsub.journals.workers.link import MOST_BEHIND
from pubsub.journals.workers.wire import Hello, Renew, frame
from pubsub.protocol.errors import BadRequest, Conflict, NotStored, TopicExists, TopicNotFound
from pubsub.protocol.requests import TopicOptions
from tests.harness import PATIENCE, eventually, new_id, on_one_loop
from tests.journals.world import message
from tests.workers.following import Place, Worker, appending, place

KNOWN = Known("t", "e1", 0)


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as found:
        yield found


def placed(*seqs: int) -> list[Assignment]:
    return [Assignment(seq, duplicate=False) for seq in seqs]


def facts(events: list[tuple[int, bytes]]) -> list[tuple[int, Any]]:
    return [(seq, json.loads(text)["message"]["payload"]) for seq, text in events]


# One order


@pytest.mark.parametrize("durable", [False, True])
async def test_all_workers_get_the_same_events_in_the_same_order(at: Place, durable: bool) -> None:
    parts = await at.own()
    one, other = await at.work(), await at.work()
    await one.create("t", durable=durable)
    assert await one.publish(message("a"), message("b")) == placed(1, 2)
    assert await other.publish(message("c"), sender="nobody's") == placed(3)
    parts.broker.publish_all("t", [message("d")], "", lambda _: None)
    await eventually(lambda: parts.broker.topic("t").seq == 4)
    await asyncio.gather(one.sync(), other.sync())
    expected = [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert facts(one.following.stored("t")) == facts(other.following.stored("t")) == expected
    assert one.following.stored("t") == [(event.seq, event.text) for event in parts.broker.topic("t").ring.after(0, 9)]
    state = one.following.states["t"]
    assert (state.epoch, state.options) == ("e1", TopicOptions(history=1000, durable=durable))


@on_one_loop
async def test_the_outcome_comes_after_the_records_of_the_batch(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t", durable=True)
    seen: list[list[int]] = []
    for _ in range(3):
        worker.engine.ask(
            [appending([message(), message()])], lambda _: seen.append([seq for seq, _ in worker.following.stored("t")])
        )
    await eventually(lambda: len(seen) == 3)
    assert [each[: 2 * place] for place, each in enumerate(seen, 1)] == [[1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]


@on_one_loop
async def test_outcomes_come_in_the_order_of_the_batches(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t", durable=True)
    await worker.create("memory")
    ended: list[str] = []
    worker.engine.ask([appending([message()])], lambda _: ended.append("on disk"))
    worker.engine.ask([appending([message(topic="memory")])], lambda _: ended.append("in memory"))
    await eventually(lambda: len(ended) == 2)
    assert ended == ["on disk", "in memory"]


# Outcomes


@on_one_loop
async def test_each_publish_has_an_outcome_of_its_own(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t", dedup_sec=60)
    again = message(message_id=new_id())
    found = await worker.publish(message(), again, again, message(expect_seq=9), message(expect_seq=2), message())
    assert found[:3] + found[4:] == [*placed(1, 2), Assignment(2, duplicate=True), *placed(3, 4)]
    conflict = found[3]
    assert isinstance(conflict, Conflict)
    assert (conflict.seq, str(conflict)) == (2, "expect_seq: expected 9, but the seq of the topic is 2")


@on_one_loop
async def test_a_list_is_taken_whole_or_not_at_all(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t")
    assert await worker.publish(message(), message(), together=True) == placed(1, 2)
    refused = await worker.publish(message(), message(expect_seq=9), together=True)
    assert isinstance(refused, Conflict)
    assert str(refused).startswith("[1].expect_seq")
    assert len(worker.following.stored("t")) == 2


@on_one_loop
async def test_failures_arrive_as_they_were(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t")
    plain = TopicOptions(history=10)
    outcomes = await worker.ask(
        Create("t", "e2", plain, 0),
        Create("..", "e2", plain, 0),
        Create("u", "e2", TopicOptions(history=10, dead_letter="none"), 0),
        appending([message(topic="none")]),
        Delete(Known("t", "another", 0)),
        Purge(Known("t", "another", 0)),
        Delete(Known("none", "e1", 0)),
    )
    kinds = [TopicExists, BadRequest, BadRequest, TopicNotFound, TopicNotFound, TopicNotFound, TopicNotFound]
    assert [type(each) for each in outcomes] == kinds
    assert str(outcomes[0]) == "Topic 't' exists"
    assert isinstance(outcomes[3], TopicNotFound)
    assert outcomes[3].rest_text == "topic not found"


@on_one_loop
async def test_deletions_and_purges_reach_all(at: Place) -> None:
    parts = await at.own()
    one, other = await at.work(), await at.work()
    await one.create("t", durable=True)
    await one.create("memory")
    await one.publish(message(), message())
    assert await other.ask(Purge(KNOWN), Purge(Known("memory", "e1", 0)), Delete(KNOWN)) == [2, 0, None]
    parts.broker.delete_topic("memory")
    await asyncio.gather(one.sync(), other.sync())
    assert set(one.following.others) == {
        Purged("t", "e1", 2), Purged("memory", "e1", 0), Deleted("t", "e1"), Deleted("memory", "e1"),
    }  # fmt: skip
    assert one.following.others == other.following.others


@on_one_loop
async def test_what_is_told_reaches_all_processes(at: Place) -> None:
    parts = await at.own()
    heard: list[tuple[str, bytes]] = []
    parts.owner.hear("greetings", lambda server, data: heard.append((server, data)))
    one, other = await at.work(), await at.work()
    await one.ask(Tell("greetings", b"from one"), Tell("unheard", b""))
    parts.owner.tell("greetings", b"from the owner")
    await asyncio.gather(one.sync(), other.sync())
    assert heard == [(one.engine.server, b"from one"), (parts.owner.server, b"from the owner")]
    told = [Told(one.engine.server, "greetings", b"from one"), Told(one.engine.server, "unheard", b""),
            Told(parts.owner.server, "greetings", b"from the owner")]  # fmt: skip
    assert one.following.others == other.following.others == told


# What is kept


@on_one_loop
@pytest.mark.parametrize("durable", [False, True])
async def test_pages_are_read_from_the_ring_and_the_disk(at: Place, durable: bool) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t", durable=durable)
    for _ in range(3):
        await worker.publish(*[message("x" * 100) for _ in range(100)])
    page = await worker.read(KNOWN, 0, 300, 10)
    assert [event.seq for event in page] == list(range(1, 11))
    assert [event.seq for event in await worker.read(KNOWN, 250, 255)] == [251, 252, 253, 254, 255]
    assert [event.seq for event in await worker.read(KNOWN, 298, 900)] == [299, 300]
    stored = dict(worker.following.stored("t"))
    assert [event.text for event in page] == [stored[event.seq] for event in page]
    assert len(await worker.read(KNOWN, 0, 300)) < 300, "a page has 64 KiB and one event"
    assert await worker.find_missing(KNOWN, 0, 300) is False
    await worker.ask(Purge(KNOWN))
    await worker.publish(message())
    assert await worker.find_missing(KNOWN, 0, 301) is True
    assert await worker.find_missing(KNOWN, 300, 301) is False
    assert [event.seq for event in await worker.read(KNOWN, 0, 301)] == [301]
    assert isinstance(await worker.read(Known("t", "another", 0), 0, 1), TopicNotFound)
    assert isinstance(await worker.find_missing(Known("u", "e1", 0), 0, 1), TopicNotFound)


@on_one_loop
@pytest.mark.parametrize("durable", [False, True])
async def test_what_has_expired_is_not_read(at: Place, durable: bool) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t", durable=durable)
    before = time.monotonic()
    await worker.publish(message(1), message(2, ttl_sec=0.05), message(3, ttl_sec=1000))
    record = next(each for each in worker.following.records if isinstance(each, Appended))
    assert [before + 1000 < event.expires < before + 1000 + PATIENCE for event in record.events] == [False, False, True]
    await eventually(lambda: time.monotonic() > before + 0.1)
    assert [event.seq for event in await worker.read(KNOWN, 0, 3)] == [1, 3]
    assert await worker.find_missing(KNOWN, 0, 3) is True
    assert await worker.find_missing(KNOWN, 2, 3) is False


@on_one_loop
async def test_the_sizes_of_topics_follow(at: Place) -> None:
    parts = await at.own()
    worker = await at.work()
    await worker.create("t", durable=True)
    await worker.create("memory")
    await worker.publish(message("a" * 500), message("a" * 500))
    await worker.publish(message("b" * 500, topic="memory"))

    def sizes() -> list[int]:
        return [worker.following.states[name].size for name in ("t", "memory")]

    kept = [sum(len(event.text) for event in parts.broker.topic(each).ring.after(0, 9)) for each in ("t", "memory")]
    await eventually(lambda: sizes() == kept)


# Connections that end


@on_one_loop
async def test_a_worker_that_comes_late_learns_of_all_topics(at: Place) -> None:
    parts = await at.own()
    for number in range(1200):
        parts.broker.create_topic(f"t.{number}", TopicOptions(history=3))
    parts.broker.publish_all("t.7", [message(topic="t.7")] * 5, "", lambda _: None)
    worker = await at.work()
    assert len(worker.following.names) == len(worker.following.states) == 1200
    state = worker.following.states["t.7"]
    assert (state.seq, state.first, state.base) == (5, 3, 0)
    assert worker.following.reasons == [""]


async def cut(at: Place, worker: Worker) -> None:
    """Cut the connection of a worker, and wait until it has connected again."""
    syncs = worker.following.syncs
    assert worker.engine._connection is not None
    worker.engine._connection.transport.abort()
    await eventually(lambda: worker.following.syncs > syncs)


@pytest.mark.parametrize("durable", [False, True])
async def test_no_batch_is_done_twice_or_lost_over_many_cuts(at: Place, durable: bool) -> None:
    parts = await at.own()
    worker = await at.work()
    await worker.create("t", durable=durable)
    given: list[Any] = []
    for round_ in range(20):
        for number in range(10):
            worker.engine.ask([appending([message(round_ * 10 + number)])], given.append)
        if round_ % 3:
            await asyncio.sleep(0)
        await cut(at, worker)
    await eventually(lambda: len(given) == 200)
    assert given == [[placed(seq)] for seq in range(1, 201)]
    assert parts.broker.topic("t").seq == 200
    events = [json.loads(event.text) for event in await worker.read(KNOWN, 0, 100) + await worker.read(KNOWN, 100, 200)]
    assert [event["message"]["payload"] for event in events] == list(range(200))


@on_one_loop
async def test_outcomes_come_after_the_states_of_a_new_connection(at: Place) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t")
    order: list[str] = []
    worker.following.synced = lambda names, holds: order.append("synced")  # type: ignore[method-assign]
    assert worker.engine._connection is not None
    worker.engine._connection.transport.abort()
    worker.engine.ask([appending([message()])], lambda _: order.append("outcome"))
    worker.engine.sync(lambda _: order.append("sync"))
    await eventually(lambda: len(order) == 3)
    assert (order[0], sorted(order[1:])) == ("synced", ["outcome", "sync"])


@on_one_loop
async def test_a_batch_that_was_withdrawn_is_not_asked_again(at: Place) -> None:
    parts = await at.own()
    worker = await at.work()
    await worker.create("t")
    await parts.stop()
    await eventually(lambda: worker.following.reasons[-1] != "")
    given: list[Any] = []
    worker.engine.ask([appending([message("withdrawn")])], given.append)
    worker.engine.withdraw(given.append)
    again = await at.own()
    await eventually(lambda: worker.following.reasons[-1] == "")
    assert await worker.publish(message("kept")) == placed(1)
    assert given == []
    assert again.broker.topic("t").seq == 1


# Another owner


@on_one_loop
async def test_another_owner_has_the_durable_topics_and_renews_those_in_memory(at: Place) -> None:
    parts = await at.own()
    one, other = await at.work(), await at.work()
    await one.create("t", durable=True)
    await one.create("m.2")
    await one.create("m.1", sender=True, dead_letter="m.2")
    await one.publish(message(), message())
    await one.publish(message(topic="m.1"))
    await parts.stop()
    await eventually(lambda: bool(one.following.reasons[-1] and other.following.reasons[-1]))
    again = await at.own()
    await eventually(lambda: not (one.following.reasons[-1] or other.following.reasons[-1]))
    for worker in (one, other):
        assert worker.following.names == {"t", "m.1", "m.2"}
        states = worker.following.states
        assert (states["t"].epoch, states["t"].seq, states["t"].before) == ("e1", 2, "")
        renewed = again.broker.topic("m.1")
        assert renewed.epoch != "e1"
        assert (states["m.1"].epoch, states["m.1"].seq, states["m.1"].before) == (renewed.epoch, 0, "e1")
        assert states["m.1"].options == TopicOptions(history=1000, sender=True, dead_letter="m.2")
    assert await other.publish(message(topic="m.1")) == placed(1)
    assert await other.publish(message()) == placed(3)


@on_one_loop
async def test_a_batch_that_a_dead_owner_had_fails_and_later_ones_are_done(at: Place) -> None:
    parts = await at.own()
    worker = await at.work()
    await worker.create("t", durable=True)
    given: list[Any] = []
    worker.engine.ask([appending([message("uncertain")])], given.append)
    await parts.stop()  # before it has read anything
    await eventually(lambda: worker.following.reasons[-1] != "")
    worker.engine.ask([appending([message("certain")])], given.append)
    again = await at.own()
    await eventually(lambda: len(given) == 2)
    assert isinstance(given[0][0], NotStored)
    assert given[1] == [placed(1)]
    assert again.broker.topic("t").seq == 1


# Hostile or slow ends


def connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.settimeout(PATIENCE)
    return sock


async def ended(sock: socket.socket) -> bytes:
    """Wait for the end of a connection; what came before it."""
    received = b""

    def read() -> None:
        nonlocal received
        try:
            while some := sock.recv(65536):
                received += some
        except ConnectionResetError:
            pass

    await asyncio.to_thread(read)
    return received


@on_one_loop
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc0",
        frame(Hello(99, "s", "")),
        frame(Hello(1, "s", "")) + b"\x00\x00\x00\x05hello",
        frame(Hello(1, "s", "")) + frame(Hello(1, "s", "")),
        frame(Hello(1, "s", "")) + b"\x7f\xff\xff\xff",
    ],
)
async def test_garbage_ends_its_connection_alone(at: Place, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    await at.own()
    worker = await at.work()
    await worker.create("t")
    with connect(at.path) as sock:
        sock.sendall(garbage)
        await ended(sock)
    assert await worker.publish(message()) == placed(1)
    assert worker.following.syncs == 1
    assert "A worker is disconnected" in caplog.text
    assert "Traceback" not in caplog.text


@on_one_loop
async def test_an_owner_of_another_version_is_told_at_the_start(at: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await at.own()
    monkeypatch.setattr("pubsub.journals.workers.engine.VERSION", 2)
    with pytest.raises(Exception, match=r"JOURNAL_URL: unix:.*: the owner expects a worker of version 1"):
        await at.work()


async def test_the_socket_belongs_to_its_user_alone(at: Place) -> None:
    parts = await at.own()
    (found,) = at.directory.iterdir()
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    await parts.stop()
    assert not list(at.directory.iterdir())


@on_one_loop
async def test_a_worker_that_takes_nothing_is_cut_off(at: Place, caplog: pytest.LogCaptureFixture) -> None:
    parts = await at.own()
    good = await at.work()
    await good.create("t")
    with connect(at.path) as slow:
        slow.sendall(frame(Hello(1, "slow", "")) + frame(Renew([], more=False)))
        await eventually(lambda: parts.service.workers == 2)
        payload = "x" * 1_000_000
        sent = 0
        while parts.service.workers == 2:
            parts.broker.publish_all("t", [message(payload)], "", lambda _: None)
            sent += len(payload)
            await good.sync()
        assert MOST_BEHIND < sent < MOST_BEHIND + 4 * len(payload)
    assert "bytes behind" in caplog.text
    assert good.following.syncs == 1


@on_one_loop
async def test_an_owner_that_is_not_there_yet_is_found_later(at: Place) -> None:
    worker = await at.work()
    assert worker.following.reasons[0].startswith("the owner cannot be reached: ")
    given: list[Any] = []
    worker.engine.ask([Create("t", "e1", TopicOptions(history=1), 0)], given.append)
    await at.own()
    await eventually(lambda: bool(given))
    assert given == [[None]]
    assert worker.following.reasons[-1] == ""
