"""Topics that are spread over several independent instances."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubsub.cli.journal_copy import copy
from pubsub.core.journal import JournalError
from pubsub.core.log import Assignment
from pubsub.journals.redis import spread
from pubsub.journals.shared.engine import Tell, Told
from pubsub.journals.transfer.copying import Copied
from tests.harness import eventually, on_one_loop
from tests.redis.driver import Driver, publish
from tests.redis.programs import RedisServer

pytestmark = on_one_loop
NAMES = [f"topic.{number}" for number in range(20)]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with RedisServer.run(tmp_path / "a") as first, RedisServer.run(tmp_path / "b") as second:
        yield [first, second]


@pytest.fixture
def url(servers: list[RedisServer]) -> str:
    return f"redis://{','.join(f'127.0.0.1:{server.port}' for server in servers)}?prefix=t"


async def test_each_topic_lives_in_one_instance(servers: list[RedisServer], url: str) -> None:
    async with Driver.run(url) as driver, Driver.run(url) as other:
        assert driver.synchronized == 2
        await driver.ask(*[driver.creation(name) for name in NAMES])
        for n in range(5):
            given = await driver.ask(*[driver.append(publish([name, n]), name=name) for name in NAMES])
            assert given == [[Assignment(n + 1, False)]] * 20
        await other.sync()
        assert other.seq == dict.fromkeys(NAMES, 5)
        assert [await other.read(name=name) for name in NAMES] == [await driver.read(name=name) for name in NAMES]
        counts = []
        for server in servers:
            with server.admin as admin:
                counts.append(admin.hlen("t:topics"))
        assert sum(counts) == 20
        assert min(counts) >= 5
        for name in NAMES:
            assert await other.delete(name) is None
    async with Driver.run(url) as later:
        assert later.names == set()


async def test_a_copy_finds_and_spreads_the_topics(servers: list[RedisServer], url: str, tmp_path: Path) -> None:
    one = servers[0].url("one")
    async with Driver.run(one) as driver:
        await driver.ask(*[driver.creation(name, durable=True) for name in NAMES])
        await driver.ask(*[driver.append(publish(name), name=name) for name in NAMES])
        before = [await driver.read(name=name) for name in NAMES]
    assert await copy(one, url, []) == Copied(topics=20, events=20)
    async with Driver.run(url) as driver:
        assert driver.names == set(NAMES)
        assert [await driver.read(name=name) for name in NAMES] == before
        with pytest.raises(JournalError, match="expected a journal that no server uses, got one with 1"):
            await copy(url, str(tmp_path / "disk"), [])
    assert await copy(url, str(tmp_path / "disk"), []) == Copied(topics=20, events=20)
    assert await copy(one, str(tmp_path / "disk"), []) == Copied(equal=20)


async def test_one_that_is_away_refuses_its_topics_and_the_others_go_on(
    impatient: None, monkeypatch: pytest.MonkeyPatch, servers: list[RedisServer], url: str
) -> None:
    monkeypatch.setattr(spread, "WAIT", 0.3)
    async with Driver.run(url) as driver:
        await driver.ask(*[driver.creation(name) for name in NAMES])
        here = [name for name in NAMES if spread.place_of(name, 2) == 0]
        there = [name for name in NAMES if spread.place_of(name, 2) == 1]
        servers[1].kill()
        await eventually(lambda: driver.partly)
        for _ in range(2):  # the first time it waits
            given = await driver.ask(*[driver.append(publish(), name=name) for name in NAMES])
            for name, outcome in zip(NAMES, given, strict=True):
                refused = str(outcome) == "not stored: the server's journal fails"
                assert refused == (name in there), name
        assert await driver.publish(publish(), name=here[0]) == [Assignment(3, False)]
        assert await driver.read(name=here[0]) != []
        assert str(await driver.read(name=there[0])) == "not answered: the server's journal fails"
        servers[1].start()
        await eventually(lambda: not driver.reason)
        await driver.sync()
        assert await driver.publish(publish(), name=here[0]) == [Assignment(4, False)]
        given = await driver.ask(*[driver.creation(name) for name in there])  # it kept nothing on a disk
        assert given == [None] * len(there)


async def test_one_whose_memory_is_full_is_read_and_deletes(
    impatient: None, monkeypatch: pytest.MonkeyPatch, servers: list[RedisServer], url: str
) -> None:
    monkeypatch.setattr(spread, "WAIT", 0)
    async with Driver.run(url) as driver:
        await driver.ask(*[driver.creation(name) for name in NAMES])
        await driver.ask(*[driver.append(publish(), name=name) for name in NAMES])
        for server in servers:
            with server.admin as admin:
                admin.config_set("maxmemory", 1)
        await eventually(lambda: driver.reason.count("its memory is full") == 2)
        assert driver.partly
        await driver.sync()
        for name in NAMES:
            assert len(await driver.read(name=name)) == 1
            assert await driver.delete(name) is None


async def test_outcomes_behind_a_withdrawn_batch_come_later_and_in_order(servers: list[RedisServer], url: str) -> None:
    async with Driver.run(url) as driver:
        await driver.ask(*[driver.creation(name) for name in NAMES])
        here = next(name for name in NAMES if spread.place_of(name, 2) == 0)
        servers[1].signal(signal.SIGSTOP)
        told: list[str] = []
        both = [driver.append(publish(), name=name) for name in NAMES]
        driver.engine.ask(both, first := lambda _: told.append("first"))
        driver.engine.ask([driver.append(publish(), name=here)], lambda _: told.append("second"))
        await driver.read(name=here)
        assert told == [], "the first waits for the instance that hangs"
        driver.engine.withdraw(first)
        assert told == [], "the journal has not told of the first yet"
        await eventually(lambda: told == ["second"])
        servers[1].signal(signal.SIGCONT)


async def test_a_message_for_all_comes_once_even_if_one_is_away(
    impatient: None, servers: list[RedisServer], url: str
) -> None:
    async with Driver.run(url) as driver, Driver.run(url) as other:
        servers[0].kill()
        await eventually(lambda: driver.partly and other.partly)
        await driver.ask_one(Tell("k", b"x"))
        await eventually(lambda: bool([each for each in other.told if isinstance(each, Told)]))
        assert [each.server for each in other.told if isinstance(each, Told)] == [driver.engine.server]


async def test_another_list_of_instances_is_refused(servers: list[RedisServer], url: str) -> None:
    async with Driver.run(url):
        pass
    for wrong in (servers[0].url("t"), f"redis://127.0.0.1:{servers[1].port},127.0.0.1:{servers[0].port}?prefix=t"):
        with pytest.raises(JournalError, match="of those that share the topics, got instance"):
            async with Driver.run(wrong):
                pass


async def test_a_refused_list_changes_none_of_its_instances(servers: list[RedisServer], url: str) -> None:
    first, second = servers
    with second.admin as admin:
        admin.set("t:x", "of another program")
    same = f"redis://127.0.0.1:{first.port},localhost:{first.port}?prefix=t"
    for wrong, line in ((url, "keys of another program"), (same, "instances 1 and 2 are the same one")):
        with pytest.raises(JournalError, match=line):
            async with Driver.run(wrong):
                pass
        with first.admin as admin:
            assert admin.keys("*") == []
