"""Decisions of the Redis engine: one function for a whole batch, on a real redis-server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pubsub.core.event import make_event
from pubsub.core.log import Assignment
from pubsub.journals.redis import batches
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import encode
from pubsub.journals.shared.engine import Append, Appended, Create, Delete, Deleted, Known, Purge, Purged, Tell, Told
from pubsub.protocol.errors import Conflict, LimitExceeded, TopicExists, TopicNotFound
from pubsub.protocol.requests import TopicOptions
from tests.harness import PATIENCE, eventually, new_id, on_one_loop
from tests.redis.driver import TS, Driver, publish
from tests.redis.programs import RedisServer

pytestmark = on_one_loop


def new(*seqs: int) -> list[Assignment]:
    return [Assignment(seq, duplicate=False) for seq in seqs]


def old(seq: int) -> Assignment:
    return Assignment(seq, duplicate=True)


# Topics


async def test_a_name_is_taken_once_and_topics_have_a_limit(driver: Driver) -> None:
    given = await driver.ask(
        driver.creation("a"), driver.creation("a"), driver.creation("b", most=2), driver.creation("c", most=2)
    )
    assert [type(each) for each in given] == [type(None), TopicExists, type(None), LimitExceeded]
    assert [record.name for record in driver.states("a") + driver.states("b")] == ["a", "b"]
    assert driver.states("c") == []


async def test_a_state_has_the_options_as_they_were_given(driver: Driver) -> None:
    options = TopicOptions(history=7, ttl_sec=1.5, durable=True, dedup_sec=60, overflow="latest", sender=True)
    await driver.ask_one(Create("t", "e1", options, 0))
    (state,) = driver.states()
    assert (state.epoch, state.options, state.seq, state.base, state.first, state.size) == ("e1", options, 0, 0, 1, 0)
    assert not state.renewed


async def test_a_topic_that_is_deleted_leaves_no_key(driver: Driver, url: str, redis_server: RedisServer) -> None:
    await driver.create(dedup_sec=60, ttl_sec=60)
    await driver.publish(publish(), publish(), lifetime=5)
    assert await driver.ask(Delete(Known("t", "another", 0)), Delete(driver.known()), Delete(driver.known())) != []
    assert driver.told[-1] == Deleted("t", "et")
    prefix = url.partition("prefix=")[2]
    with redis_server.admin as admin:
        assert admin.hlen(f"{prefix}:topics") == 0
        assert [key for key in admin.scan_iter(f"{prefix}:*") if b":t" in key] == []


async def test_a_topic_of_another_epoch_is_neither_deleted_nor_purged(driver: Driver) -> None:
    await driver.create()
    await driver.publish(publish())
    stranger = Known("t", "another", 1)
    given = await driver.ask(Delete(stranger), Purge(stranger), Purge(Known("u", "", 0)))
    assert [type(each) for each in given] == [TopicNotFound] * 3
    assert await driver.payloads() == [1]


# Messages


async def test_messages_are_numbered_and_told_as_they_were_sent(driver: Driver) -> None:
    await driver.create()
    requests = [publish({"é": "\u2028"}), publish([1.0])]
    assert await driver.ask(driver.append(requests[0]), driver.append(requests[1])) == [new(1), new(2)]
    first, second = [record for record in driver.told if isinstance(record, Appended)]
    assert (first.name, first.epoch, first.kept) == ("t", "et", 1)
    (event,), (later,) = first.events, second.events
    assert event == make_event("t", requests[0].message, 1, TS)
    assert later.seq == 2
    assert await driver.payloads() == [{"é": "\u2028"}, [1.0]]


async def test_a_topic_that_is_not_there_refuses_each_publish(driver: Driver) -> None:
    assert isinstance(await driver.publish(publish(), publish()), TopicNotFound)
    assert isinstance(await driver.publish(publish(), together=True), TopicNotFound)


async def test_an_id_in_either_case_is_known_within_its_window(driver: Driver) -> None:
    await driver.create(dedup_sec=0.5)
    message_id = new_id()
    given = await driver.publish(
        publish(message_id=message_id), publish(message_id=message_id.upper(), expect_seq=9), publish()
    )
    assert given == [*new(1), old(1), *new(2)]
    assert await driver.publish(publish(message_id=message_id)) == [old(1)]
    await asyncio.sleep(0.55)
    assert await driver.publish(publish(message_id=message_id)) == new(3)
    assert await driver.publish(publish(message_id=message_id)) == [old(3)]


async def test_ids_whose_window_has_ended_are_forgotten(driver: Driver, url: str, redis_server: RedisServer) -> None:
    await driver.create(dedup_sec=0.2)
    await driver.publish(*[publish() for _ in range(50)])
    await asyncio.sleep(0.25)
    await driver.publish(publish())
    prefix = url.partition("prefix=")[2]
    with redis_server.admin as admin:
        assert (admin.hlen(f"{prefix}:i:t"), admin.llen(f"{prefix}:o:t")) == (1, 1)


async def test_a_publish_is_taken_only_at_the_seq_that_it_expects(driver: Driver) -> None:
    await driver.create()
    first, conflict, second = await driver.publish(publish(expect_seq=0), publish(expect_seq=0), publish(expect_seq=1))
    assert [first, second] == new(1, 2)
    assert isinstance(conflict, Conflict)
    assert conflict.seq == 1


async def test_a_list_is_taken_as_a_whole_or_not_at_all(driver: Driver) -> None:
    await driver.create(dedup_sec=60)
    await driver.publish(publish())
    known = publish(expect_seq=1)
    refused = await driver.publish(known, publish(expect_seq=2), publish(expect_seq=2), together=True)
    assert isinstance(refused, Conflict)
    assert (str(refused)[:14], refused.seq) == ("[2].expect_seq", 3)
    assert len(driver.heard) == 1
    assert await driver.publish(known, publish(expect_seq=2), known, together=True) == [*new(2, 3), old(2)]
    assert await driver.publish(together=True) == []


async def test_a_batch_of_any_size_has_its_outcomes_in_order(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    await driver.create()
    monkeypatch.setattr(batches, "PIECE_MESSAGES", 7)
    monkeypatch.setattr(batches, "PIECE_BYTES", 5000)
    whole = driver.append(*[publish("x" * 300) for _ in range(20)], together=True)
    given = await driver.ask(driver.append(*[publish(n) for n in range(40)]), whole, driver.append(publish("y" * 9000)))
    assert given == [new(*range(1, 41)), new(*range(41, 61)), new(61)]
    assert [seq for seq, _ in driver.heard] == list(range(1, 62))
    missing = await driver.ask_one(Append(Known("u", "", 0), whole.requests, TS, "", whole.lifetimes, False))
    assert [type(each) for each in missing] == [TopicNotFound] * 20


async def test_thousands_of_batches_at_once(driver: Driver, url: str, redis_server: RedisServer) -> None:
    await driver.create()
    given = [driver.begin(driver.append(publish(n))) for n in range(3000)]
    async with asyncio.timeout(3 * PATIENCE):
        assert await given[-1] == [new(3000)]
    with redis_server.admin as admin:
        assert admin.hlen(f"{url.partition('prefix=')[2]}:s:{driver.engine.server}") <= 1 + batches.SLOTS


async def test_a_reply_that_may_still_be_asked_for_keeps_its_slot() -> None:
    sent = batches.Batches("me", Scripts("p"), lambda _: None)
    line = Line()
    sent.open(line, 1, "token")
    for _ in range(3 * batches.SLOTS):
        sent.ask([Tell("k", b"")], lambda _: None)
    assert len(line.waiting) == batches.SLOTS
    for number in range(1, 5):
        line.waiting.pop(0)(encode((number, 0, [0])))
    assert len(line.waiting) == batches.SLOTS
    sent.pause()
    again = Line()
    sent.open(again, 2, "token")
    assert len(again.waiting) == batches.SLOTS


class Line:
    """A connection that sends nothing. ``waiting``: for the replies."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[Any], None]] = []

    def send(self, _: bytes, replied: Callable[[Any], None]) -> None:
        self.waiting.append(replied)

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


async def test_a_message_for_all_servers_comes_back_too(driver: Driver, url: str) -> None:
    async with Driver.run(url) as other:
        data = bytes(range(256))
        assert await driver.ask_one(Tell("presence", data)) is None
        await other.sync()
        told = Told(driver.engine.server, "presence", data)
        assert [each for each in driver.told if isinstance(each, Told)] == [told]
        assert [each for each in other.told if isinstance(each, Told)] == [told]


# What is kept


@pytest.mark.parametrize("history", [0, 1, 100, 600])
async def test_a_history_is_trimmed_in_groups_and_its_extent_is_right(driver: Driver, history: int) -> None:
    await driver.create(history=history)
    for _ in range(30):
        await driver.publish(*[publish("x" * 10) for _ in range(30)])
    record = driver.told[-1]
    assert isinstance(record, Appended)
    kept = 900 - record.kept + 1
    assert min(history, 900) <= kept <= min(900, history + max(64, history // 8)) if history else kept == 0
    events = await driver.read()
    assert [event.seq for event in events] == list(range(901 - min(history, 900), 901))
    stored = 1 + (2 + 36) + (2 + 12) + 1 + 1  # the bytes of a message in MessagePack
    assert record.size == kept * stored


async def test_expired_messages_are_read_no_more_and_are_missing(driver: Driver) -> None:
    await driver.create(ttl_sec=60)
    await driver.publish(publish("a"), lifetime=60)
    await driver.publish(publish("b"), lifetime=0.2)
    await driver.publish(publish("c"), lifetime=60)
    assert (await driver.payloads(), await driver.is_missing(0, 3)) == (["a", "b", "c"], False)
    await asyncio.sleep(0.25)
    assert await driver.payloads() == ["a", "c"]
    assert [await driver.is_missing(*span) for span in ((0, 3), (1, 2), (2, 3), (0, 1))] == [True, True, False, False]
    assert await driver.purge() == 2


async def test_messages_beyond_the_ttl_of_their_topic_are_removed_by_a_beat(
    impatient: None, driver: Driver, url: str, redis_server: RedisServer
) -> None:
    await driver.create(ttl_sec=0.2)
    await driver.publish(*[publish(n) for n in range(500)], lifetime=0.2)
    prefix = url.partition("prefix=")[2]
    with redis_server.admin as admin:
        assert admin.xlen(f"{prefix}:m:t") == 500
        await eventually(lambda: driver.states()[-1].first == 501)
        assert (driver.states()[-1].size, admin.xlen(f"{prefix}:m:t")) == (0, 0)
        assert admin.zcard(f"{prefix}:due") == 0
    assert await driver.publish(publish("late"), lifetime=0.2) == new(501)
    assert await driver.is_missing(499, 501) is True


async def test_messages_that_expire_are_removed_as_fast_as_others_come(
    driver: Driver, url: str, redis_server: RedisServer
) -> None:
    await driver.create(history=100_000, ttl_sec=0.1)
    for _ in range(20):
        await driver.publish(*[publish() for _ in range(100)], lifetime=0.1)
        await asyncio.sleep(0.02)
    with redis_server.admin as admin:
        assert admin.xlen(f"{url.partition('prefix=')[2]}:m:t") < 1500


async def test_a_purge_counts_what_readers_would_have_seen(driver: Driver) -> None:
    await driver.create(history=10)
    await driver.publish(*[publish() for _ in range(30)])
    assert await driver.purge() == 10
    assert driver.told[-1] == Purged("t", "et", 30)
    assert (await driver.purge(), await driver.payloads(), await driver.is_missing(29, 30)) == (0, [], True)
    assert await driver.publish(publish("next")) == new(31)
    assert await driver.payloads() == ["next"]


async def test_a_page_ends_with_its_bytes(driver: Driver) -> None:
    await driver.create()
    await driver.publish(*[publish("x" * 20_000) for _ in range(12)])
    events = await driver.read(after=2)
    assert [event.seq for event in events] == [3, 4, 5, 6]
    assert [event.seq for event in await driver.read(after=2, until=4)] == [3, 4]
    assert [event.seq for event in await driver.read(after=2, limit=1)] == [3]


async def test_a_reader_of_another_epoch_finds_no_topic(driver: Driver) -> None:
    assert isinstance(await driver.read(), TopicNotFound)
    await driver.create()
    driver.epoch["t"] = "another"
    assert isinstance(await driver.read(), TopicNotFound)
    assert isinstance(await driver.is_missing(0, 5), TopicNotFound)


# Several servers


async def test_all_servers_hear_the_same_in_one_order(driver: Driver, url: str) -> None:
    async with Driver.run(url) as other:
        await driver.create()
        await other.sync()
        given = [each.begin(each.append(publish(n))) for n in range(100) for each in (driver, other)]
        seqs = [(await each)[0][0].seq for each in given]  # type: ignore[index, union-attr]
        assert sorted(seqs) == list(range(1, 201))
        await driver.sync()
        await other.sync()
        assert driver.heard == other.heard
        assert [seq for seq, _ in driver.heard] == list(range(1, 201))


async def test_racing_writers_at_several_servers_lose_no_update(driver: Driver, url: str) -> None:
    await driver.create()
    async with Driver.run(url) as other:

        async def add_one(each: Driver) -> None:
            while True:
                value = each.heard[-1] if each.heard else (0, 0)
                (outcome,) = await each.publish(publish(value[1] + 1, expect_seq=value[0]))
                if isinstance(outcome, Assignment):
                    return
                await each.sync()

        await asyncio.gather(*[add_one(each) for _ in range(20) for each in (driver, other)])
        await driver.sync()
        assert driver.heard == [(n, n) for n in range(1, 41)]


async def test_the_outcome_comes_after_the_records(driver: Driver) -> None:
    await driver.create()
    heard: list[int] = []
    driver.engine.ask([driver.append(publish())], lambda _: heard.append(len(driver.heard)))
    await driver.sync()
    assert heard == [1]


async def test_a_tail_that_the_engine_has_lost_begins_a_new_epoch(driver: Driver) -> None:
    await driver.create()
    await driver.publish(publish("a"))
    driver.seq["t"] = 5
    assert await driver.publish() == []
    state = driver.states()[-1]
    assert (state.seq, state.base, state.before, state.renewed) == (1, 1, "et", True)
    assert state.epoch not in ("", "et")
    driver.seq["t"] = 9
    assert await driver.publish(publish("b")) == new(2)
    assert len({each.epoch for each in driver.states()}) == 3
    assert await driver.payloads() == ["a", "b"]
