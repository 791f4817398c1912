"""New epochs after a restart or a failover of Redis, and data that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pubsub.core.log import Assignment
from tests.faults import FaultyLine
from tests.harness import eventually, on_one_loop
from tests.redis.driver import Driver, publish
from tests.redis.programs import RedisServer

pytestmark = on_one_loop


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer.run(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def test_a_restart_renews_all_epochs_and_keeps_the_messages(server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver, Driver.run(server.url("t")) as other:
        await driver.ask(driver.creation("t"), driver.creation("empty"))
        await driver.publish(publish("a"), publish("b"))
        server.restart()
        await driver.works_again(2)
        await other.works_again(2)
        assert await driver.payloads() == ["a", "b"]
        state = driver.states()[-1]
        assert (state.seq, state.base, state.before) == (2, 2, "et")
        assert state.epoch not in ("", "et")
        empty = driver.states("empty")[-1]
        assert (empty.seq, empty.base, empty.before, empty.renewed) == (0, 0, "eempty", True)
        assert other.epoch == driver.epoch
        assert await driver.publish(publish("c")) == [Assignment(3, False)]
        server.restart()
        await driver.works_again(3)
        again = driver.states()[-1]
        assert (again.seq, again.base, again.before) == (3, 3, state.epoch)
        assert driver.states("empty")[-1].before == empty.epoch


async def test_a_server_that_comes_later_has_the_same_epochs(server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        server.restart()
        await driver.works_again(2)
        async with Driver.run(server.url("t")) as other:
            assert other.states() == driver.states()[-1:]
        await driver.publish(publish("b"))
        async with Driver.run(server.url("t")) as other:
            assert (other.epoch, other.seq) == (driver.epoch, {"t": 2})
            assert other.states()[-1].base == 1


async def test_a_redis_without_its_data_has_no_topics(server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        server.restart(empty=True)
        await driver.works_again(2)
        assert driver.names == set()
        assert await driver.ask_one(driver.creation()) is None
        driver.seq = {}
        assert await driver.publish(publish("b")) == [Assignment(1, False)]


async def test_another_replication_id_of_the_same_run_renews_nothing(tmp_path: Path) -> None:
    """Redis takes a new one an hour after its last replica has gone."""
    with RedisServer.run(tmp_path / "r", "--enable-debug-command", "yes") as server:
        async with Driver.run(server.url("t")) as driver:
            await driver.create()
            before = server.info("replication")["master_replid"]
            with server.admin as admin:
                admin.execute_command("DEBUG", "CHANGE-REPL-ID")
                assert server.info("replication")["master_replid"] != before
                async with Driver.run(server.url("t")) as other:
                    assert other.epoch == {"t": "et"}
                admin.replicaof("127.0.0.1", "1")
                admin.replicaof("NO", "ONE")
            async with Driver.run(server.url("t")) as other:
                assert other.epoch != {"t": "et"}, "it may have other data now"


async def test_with_renew_lost_only_a_lost_tail_renews_epochs(server: RedisServer, tmp_path: Path) -> None:
    url = server.url("t", renew="lost")
    async with Driver.run(url) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        server.restart()
        await driver.works_again(2)
        assert [state.epoch for state in driver.states()] == ["et", "et"]
        await driver.publish(publish("b"))
        with server.admin as admin:
            admin.config_set("appendonly", "no")
        await driver.publish(publish("lost"))
        server.restart()
        await driver.works_again(3)
        state = driver.states()[-1]
        assert (state.seq, state.base, state.before) == (2, 2, "et")
        assert await driver.publish(publish("new")) == [Assignment(3, False)]


async def test_with_renew_lost_a_server_that_knows_more_renews_epochs_later(server: RedisServer) -> None:
    """Another server came first, and its new message has the number of the one that was lost."""
    async with Driver.run(server.url("t", renew="lost")) as driver, FaultyLine.to(server.port) as line:
        await driver.create()
        await driver.publish(publish("a"))
        url = f"redis://127.0.0.1:{line.port}?prefix=t&renew=lost"
        async with Driver.run(url) as other:
            with server.admin as admin:
                admin.config_set("appendonly", "no")
            line.stall()
            line.cut()
            await driver.publish(publish("lost"))
            await driver.engine.stop()
            server.restart()
            line.heal()
            await other.works_again(2)
            assert await other.publish(publish("instead")) == [Assignment(2, False)]
            assert other.epoch == {"t": "et"}
            await driver.engine.start(driver)
            state = driver.states()[-1]
            assert (state.seq, state.renewed) == (2, True)
            assert state.before not in ("", "et"), "its last number stands for two messages"
            await eventually(lambda: other.epoch == driver.epoch)


async def test_a_journal_that_is_flushed_is_noticed(server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        with server.admin as admin:
            admin.flushall()
        given = driver.begin(driver.append(publish()))
        await driver.works_again(2)
        assert driver.names == set()
        (outcome,) = await given
        assert str(outcome) == "Topic 't' does not exist"
