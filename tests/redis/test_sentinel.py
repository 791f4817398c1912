"""The Redis engine behind Sentinel: a failover, also to a replica that lost the tail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pubsub.core.log import Assignment
from pubsub.journals.redis import engine
from pubsub.journals.redis.address import parse_address
from pubsub.journals.redis.sentinels import Sentinels
from tests.harness import eventually, on_one_loop
from tests.redis.driver import Driver, publish
from tests.redis.programs import RedisServer

pytestmark = on_one_loop

CONFIGURATION = """\
sentinel monitor main 127.0.0.1 {port} 1
sentinel down-after-milliseconds main 300
sentinel failover-timeout main 1000
"""


class Group:
    """A primary, a replica, and a Sentinel that watches both."""

    def __init__(self, directory: Path) -> None:
        self.primary = RedisServer(directory / "primary", "--repl-diskless-sync-delay", "0")
        self.primary.start()
        of_primary = ("--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica = RedisServer(directory / "replica", *of_primary)
        self.replica.start()
        self.sentinel = RedisServer(directory / "sentinel", sentinel=True)
        (directory / "sentinel" / "sentinel.conf").write_text(CONFIGURATION.format(port=self.primary.port))
        self.sentinel.start()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/main?prefix=t"

    async def replicated(self) -> None:
        """Wait until the replica has all, and Sentinel knows it. (WAIT would count only what its own client wrote.)"""
        with self.sentinel.admin as sentinel:
            await eventually(self._has_all)
            await eventually(lambda: len(sentinel.sentinel_slaves("main")) == 1)

    def _has_all(self) -> bool:
        found = self.replica.info("replication")
        written = self.primary.info("replication")["master_repl_offset"]
        return bool(found["master_link_status"] == "up" and found["slave_repl_offset"] >= written)

    def kill(self) -> None:
        for each in (self.sentinel, self.replica, self.primary):
            each.kill()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path)
    yield group
    group.kill()


async def test_a_failover_renews_all_epochs(group: Group) -> None:
    async with Driver.run(group.url) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        await group.replicated()
        group.primary.kill()
        given = driver.begin(driver.append(publish("b")))
        await eventually(lambda: driver.synchronized == 2)
        assert await given == [[Assignment(2, False)]]
        await driver.sync()
        state = driver.states()[1]
        assert (state.seq, state.base, state.before) == (1, 1, "et")
        assert await driver.payloads() == ["a", "b"]


async def test_a_replica_that_lost_the_tail_gives_no_old_number_to_a_new_message(group: Group) -> None:
    async with Driver.run(group.url) as driver:
        await driver.create()
        await driver.publish(publish("kept"))
        await group.replicated()
        with group.primary.admin as admin:  # from now on nothing reaches the replica
            for each in admin.client_list(_type="replica"):
                assert each["flags"] == "S"
            admin.config_set("requirepass", "secret")
            admin.client_kill_filter(_type="replica")
        assert await driver.publish(publish("lost")) == [Assignment(2, False)]
        group.primary.kill()
        await eventually(lambda: driver.synchronized == 2)
        state = driver.states()[1]
        assert (state.seq, state.base, state.before) == (1, 1, "et")
        assert await driver.publish(publish("new")) == [Assignment(2, False)]
        assert await driver.payloads() == ["kept", "new"]
        assert driver.states()[-1].epoch != "et"


async def test_a_primary_that_sentinel_has_replaced_is_left(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not know that, and would take messages that nobody keeps."""
    monkeypatch.setattr(engine, "WATCH_SECONDS", 0.1)
    async with Driver.run(group.url) as driver:
        await driver.create()
        await group.replicated()
        with group.sentinel.admin as sentinel:
            sentinel.execute_command("SENTINEL", "REMOVE", "main")
            with group.replica.admin as replica:
                replica.replicaof("NO", "ONE")
            sentinel.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", str(group.replica.port), "1")
        await eventually(lambda: driver.synchronized == 2)
        await driver.publish(publish("new"))
        with group.replica.admin as replica:
            assert replica.xlen("t:m:t") == 1


def begins_failover(sentinel: redis.Redis) -> bool:
    """Ask for a failover. False if Sentinel does not know yet that the replica is a good one."""
    try:
        sentinel.sentinel_failover("main")
    except redis.ResponseError:
        return False
    return True


async def test_a_primary_is_left_when_sentinel_tells_of_the_next_one(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentinel makes it a replica about ten seconds later."""
    monkeypatch.setattr(engine, "WATCH_SECONDS", 1000.0)
    async with Driver.run(group.url) as driver:
        await driver.create()
        await group.replicated()
        with group.sentinel.admin as sentinel:
            await eventually(lambda: begins_failover(sentinel))
        await eventually(lambda: driver.synchronized == 2)
        assert any("Sentinel knows another primary" in str(told) for told in driver.told)
        with group.primary.admin as admin:
            assert admin.info("replication")["role"] == "master"


async def test_a_service_that_sentinel_does_not_know_is_waited_for(group: Group) -> None:
    async with Driver.run(group.url.replace("/main", "/other")) as driver:
        assert "expected a service that Sentinel knows, got 'other'" in driver.reason


async def test_news_of_another_service_is_none() -> None:
    moved: list[str] = []
    sentinels = Sentinels(parse_address("redis+sentinel://127.0.0.1/orders"), lambda: moved.append("moved"))
    for name in (b"prices", b"orders"):
        sentinels._hear(b"+switch-master", name + b" 127.0.0.1 1 127.0.0.1 2")
    assert moved == ["moved"]
