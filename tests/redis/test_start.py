"""Starts that can never work: one clear line each, and nothing changed. And what a Redis may lose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from certificate import write_certificate

from pubsub.cli.journal_copy import copy
from pubsub.core.journal import JournalError
from pubsub.core.log import Assignment
from pubsub.journals.redis.checks import check_info
from pubsub.journals.redis.connection import Connection
from pubsub.journals.shared.engine import Delete, Tell
from pubsub.journals.transfer.copying import Copied
from pubsub.protocol.errors import NotStored
from tests.harness import eventually, free_port, on_one_loop
from tests.redis.driver import Driver, publish
from tests.redis.programs import RedisServer

# The rights of the user of a journal with ?prefix=mine (docs/scaling.md).
RIGHTS = (
    "~mine:* &mine:* +hello +auth +ping +select +info +config|get +script|load +evalsha +subscribe +publish +time "
    "+scan +type +unlink +expire +hget +hmget +hset +hdel +hlen +hexists +hincrby +hscan +xadd +xrange +xtrim "
    "+zadd +zrange +zrem +zremrangebyscore +lindex +llen +lpop +rpush"
)
RIGHTS_TO_COPY = "+exists +xlen +lrange +pubsub|numsub"


@pytest.fixture(scope="session", params=["redis", "valkey"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path, engine_name: str) -> Iterator[RedisServer]:
    with RedisServer.run(tmp_path / "redis", name=engine_name) as server:
        yield server


async def refusal(url: str) -> str:
    """The line for which a start fails."""
    with pytest.raises(JournalError) as error:
        async with Driver.run(url):
            pass
    text = str(error.value)
    assert "secret" not in text
    assert "\n" not in text
    return text


@on_one_loop
async def test_a_wrong_password_or_right_is_told(server: RedisServer) -> None:
    with server.admin as admin:
        admin.acl_setuser("app", enabled=True, passwords=["+secret"], commands=["+@all"], keys=["*"], channels=["*"])
        admin.acl_setuser("weak", enabled=True, passwords=["+secret"], commands=["+@read", "+hello"], keys=["*"])
        admin.acl_setuser("deaf", enabled=True, passwords=["+secret"], commands=["+@all"], keys=["*"])
        admin.acl_setuser("blind", enabled=True, passwords=["+secret"], commands=["+@all", "-hscan"], keys=["*"],
                          channels=["*"])  # fmt: skip
        admin.config_set("requirepass", "secret0")
    place = f"127.0.0.1:{server.port}"
    assert f"Redis at {place}: the user or password is wrong" in await refusal(f"redis://app:secret2@{place}")
    assert "the user or password is wrong" in await refusal(f"redis://{place}")
    assert "DB index is out of range" in await refusal(f"redis://app:secret@{place}/99")
    assert "may not do this (ACL)" in await refusal(f"redis://weak:secret@{place}")
    assert "may not do this (ACL)" in await refusal(f"redis://deaf:secret@{place}")
    assert "may not do this (ACL)" in await refusal(f"redis://blind:secret@{place}")
    for login in ("app:secret", ":secret0"):
        async with Driver.run(f"redis://{login}@{place}/3") as driver:
            await driver.delete()
            await driver.create()
            await driver.delete()


@on_one_loop
async def test_a_user_needs_no_more_rights_than_the_documents_say(
    impatient: None, server: RedisServer, tmp_path: Path
) -> None:
    with server.admin as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">secret", *RIGHTS.split())
    async with Driver.run(f"redis://app:secret@127.0.0.1:{server.port}?prefix=mine") as driver:
        await driver.create(ttl_sec=0.5, dedup_sec=0.1, history=10)
        for _ in range(3):
            await driver.publish(*[publish() for _ in range(100)], lifetime=0.2)
            await asyncio.sleep(0.1)
        await driver.read()
        await driver.is_missing(290, 300)
        await driver.purge()
        await driver.delete()
        await driver.create("kept", durable=True, dedup_sec=60)
        await driver.publish(publish(), name="kept", lifetime=60)
        await eventually(lambda: not driver.reason)
        assert driver.synchronized == 1
        with server.admin as admin:
            assert admin.acl_log() == []
            admin.execute_command("ACL", "SETUSER", "app", *RIGHTS_TO_COPY.split())
    url = f"redis://app:secret@127.0.0.1:{server.port}?prefix=mine"
    assert await copy(url, str(tmp_path / "disk"), []) == Copied(topics=1, events=1, ids=1)
    with server.admin as admin:
        admin.flushall()
        assert await copy(str(tmp_path / "disk"), url, []) == Copied(topics=1, events=1, ids=1)
        assert admin.acl_log() == []


@on_one_loop
async def test_each_missing_right_is_told(server: RedisServer) -> None:
    url = f"redis://app:secret@127.0.0.1:{server.port}?prefix=mine"
    spared = {"+hello", "+auth", "+select", "+config|get"}
    with server.admin as admin:
        for right in sorted({*RIGHTS.split()} - spared):
            admin.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret", *RIGHTS.split())
            removed = {"+": f"-{right[1:]}", "~": "resetkeys", "&": "resetchannels"}[right[0]]
            admin.execute_command("ACL", "SETUSER", "app", removed)
            line = await refusal(url)
            assert "the user may not do this (ACL)" in line
            assert right[0] != "+" or right[1:] in line.lower()
        assert admin.keys("*") == []


@on_one_loop
@pytest.mark.parametrize("key", ["meta", "topics", "m:x", "anything"])
async def test_keys_of_another_program_are_left_alone(server: RedisServer, key: str) -> None:
    with server.admin as admin:
        admin.set(f"mine:{key}", "value")
        assert "keys of another program have the prefix" in await refusal(server.url("mine"))
        assert admin.keys("*") == [f"mine:{key}".encode()]
        async with Driver.run(server.url("mine2")) as driver:
            await driver.create()


@on_one_loop
async def test_servers_begin_an_empty_journal_at_once(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One enters after another has found no journal, and before this one has looked for keys."""
    ask, other = Connection.ask, Driver(server.url("t"))

    async def ask_late(connection: Connection, *parts: str | bytes | int) -> Any:
        if parts[0] == "SCAN":
            monkeypatch.setattr(Connection, "ask", ask)
            await other.engine.start(other)
        return await ask(connection, *parts)

    monkeypatch.setattr(Connection, "ask", ask_late)
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        await eventually(lambda: len(other.states()) == 1)
    await other.engine.stop()


@on_one_loop
async def test_a_journal_of_a_newer_version_is_left_alone(server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
    with server.admin as admin:
        admin.hset("t:meta", "version", "2")
        before = admin.hgetall("t:meta")
        assert "version 2" in await refusal(server.url("t"))
        assert admin.hgetall("t:meta") == before


@on_one_loop
async def test_an_eviction_of_messages_is_refused(server: RedisServer, engine_name: str) -> None:
    with server.admin as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    told = f"{engine_name.title()} at 127.0.0.1:{server.port}: expected maxmemory-policy noeviction, got allkeys-lru"
    assert told in await refusal(server.url("t"))


@on_one_loop
async def test_a_cluster_is_refused(tmp_path: Path, engine_name: str) -> None:
    flags = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer.run(tmp_path / "cluster", *flags, name=engine_name) as server:
        assert "without cluster mode" in await refusal(server.url("t"))


@on_one_loop
async def test_a_replica_is_refused(server: RedisServer, tmp_path: Path, engine_name: str) -> None:
    of_server = ("--replicaof", "127.0.0.1", str(server.port))
    with RedisServer.run(tmp_path / "replica", *of_server, name=engine_name) as replica:
        assert "expected a primary, got a read-only replica" in await refusal(replica.url("t"))


@pytest.mark.parametrize("version", ["6.2.14", "5.0"])
def test_an_old_redis_is_refused(version: str) -> None:
    with pytest.raises(JournalError, match=f"expected Redis 7.0 or Valkey 7.2 or newer, got {version}"):
        check_info({"redis_version": version}, "Redis at x")
    check_info({"redis_version": "7.0.0"}, "Redis at x")
    check_info({"redis_version": "6.0.0", "valkey_version": "9.0.0"}, "Valkey at x")  # what it is compatible with
    check_info({"redis_version": "10.1.0"}, "Redis at x")


@on_one_loop
async def test_what_may_be_lost_is_told(server: RedisServer, driver: Driver, engine_name: str) -> None:
    async with Driver.run(server.url("a")) as other:
        assert f"appendonly is off: a crash of {engine_name.title()} loses" in other.engine.lasting
    with server.admin as admin:
        admin.config_set("appendonly", "yes")
        async with Driver.run(server.url("b")) as other:
            assert "appendfsync is everysec" in other.engine.lasting
        admin.acl_setuser("app", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"], channels=["*"])
    async with Driver.run(server.url("c").replace("://", "://app:any@")) as other:
        assert "CONFIG GET is not allowed" in other.engine.lasting
    assert driver.engine.lasting == ""


@on_one_loop
async def test_a_redis_without_memory_refuses_and_recovers(impatient: None, server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        with server.admin as admin:
            admin.config_set("maxmemory", 1)
            refused = await driver.publish(publish("b"))
            assert str(refused) == "not stored: the server's journal fails"
            assert "its memory is full (maxmemory): OOM" in driver.reason
            assert driver.partly
            assert await driver.payloads() == ["a"]
            assert await driver.purge() == 1
            async with Driver.run(server.url("t")) as late:
                await eventually(lambda: "its memory is full" in late.reason)
                assert (late.synchronized, late.partly) == (1, True)
            given = await driver.ask(Tell("k", b"x"), Delete(driver.known()), Tell("k", b"x"))
            assert [type(each) for each in given] == [NotStored, NoneType, NotStored]
            admin.config_set("maxmemory", 0)
        await eventually(lambda: not driver.reason)
        assert driver.synchronized == 1
        await driver.create()


@on_one_loop
async def test_row_47_and_70_a_redis_whose_disk_is_full_refuses_and_recovers(
    impatient: None, server: RedisServer
) -> None:
    with server.admin as admin:
        admin.config_set("appendonly", "yes")
        await eventually(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        await driver.publish(publish("a"))
        server.fill_disk()
        await eventually(lambda: "its disk is full or fails: MISCONF" in driver.reason)
        refused = await driver.publish(publish("b"))
        assert str(refused) == "not stored: the server's journal fails"
        await driver.sync()
        assert await driver.payloads() == ["a"]
        server.free_disk()
        await eventually(lambda: not driver.reason)
        assert driver.synchronized == 1
        assert await driver.publish(publish("c")) == [Assignment(2, False)]


@on_one_loop
async def test_a_redis_that_cannot_make_a_snapshot_refuses_and_recovers(impatient: None, server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        (server.directory / "dump.rdb").mkdir()
        with server.admin as admin:
            admin.config_set("save", "3600 1")
            admin.bgsave()
            await eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
            refused = await driver.publish(publish("b"))
            assert str(refused) == "not stored: the server's journal fails"
            assert "its disk is full or fails: MISCONF" in driver.reason
            admin.config_set("stop-writes-on-bgsave-error", "no")
        await eventually(lambda: not driver.reason)
        assert driver.synchronized == 1
        assert await driver.publish(publish("c")) == [Assignment(1, False)]


@on_one_loop
async def test_too_few_replicas_are_told(impatient: None, server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        with server.admin as admin:
            admin.config_set("min-replicas-to-write", 1)
            await eventually(lambda: "too few replicas follow it (min-replicas-to-write): NOREPLICAS" in driver.reason)
            admin.config_set("min-replicas-to-write", 0)
        await eventually(lambda: not driver.reason)


@on_one_loop
async def test_tls_with_a_certificate_authority_of_ones_own(tmp_path: Path, engine_name: str) -> None:
    cert, key = write_certificate(tmp_path, "localhost")
    flags = ["--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-ca-cert-file", str(cert),
             "--tls-auth-clients", "optional", "--tls-port"]  # fmt: skip
    port = free_port()
    with RedisServer.run(tmp_path / "tls", *flags, str(port), name=engine_name):
        async with Driver.run(f"rediss://127.0.0.1:{port}?ca={cert}&prefix=t") as driver:
            await driver.create()
            assert await driver.publish(publish("x" * 300_000), publish("b")) == [
                Assignment(1, False), Assignment(2, False)]  # fmt: skip
            assert len(await driver.payloads()) == 1  # a page is full
        async with Driver.run(f"rediss://127.0.0.1:{port}?ca={cert}&cert={cert}&key={key}&prefix=t") as driver:
            assert driver.names == {"t"}
        async with Driver.run(f"rediss://127.0.0.1:{port}?prefix=t") as driver:
            assert "certificate verify failed" in driver.reason
    for option in ("ca", "cert", "key"):
        assert f"{option}: cannot read '/missing'" in await refusal(f"rediss://x?cert={cert}&{option}=/missing")
    (tmp_path / "text").write_text("no certificate")
    assert "expected PEM files" in await refusal(f"rediss://x?ca={tmp_path}/text")


@on_one_loop
async def test_a_unix_socket(tmp_path: Path, engine_name: str) -> None:
    with RedisServer.run(tmp_path / "redis", "--unixsocket", str(tmp_path / "s"), name=engine_name):
        async with Driver.run(f"redis+unix://{tmp_path}/s?prefix=t") as driver:
            await driver.create()


@on_one_loop
async def test_a_primary_that_becomes_a_replica_is_left_and_found_again(impatient: None, server: RedisServer) -> None:
    async with Driver.run(server.url("t")) as driver:
        await driver.create()
        with server.admin as admin:
            admin.replicaof("127.0.0.1", "1")
            given = driver.begin(driver.append(publish("late")))
            await eventually(lambda: "replica" in driver.reason)
            admin.replicaof("NO", "ONE")
        await driver.works_again(2)
        (outcome,) = await given
        assert [each.seq for each in outcome] == [1]  # type: ignore[union-attr]
