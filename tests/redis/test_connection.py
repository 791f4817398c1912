"""The Redis engine through faults of the network and of Redis: each is noticed, and mended by itself."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pubsub.core.log import Assignment
from pubsub.journals.redis import reads
from pubsub.journals.redis.batches import SLOTS
from pubsub.journals.redis.canary import BEATS_MISSED, Canary
from pubsub.journals.redis.scripts import Scripts
from pubsub.journals.redis.wire import encode, text_of
from pubsub.journals.shared.engine import Appended, Record, State, Told
from pubsub.protocol.errors import Failure, NotStored, TopicNotFound
from tests.faults import FaultyLine
from tests.harness import PATIENCE, eventually, on_one_loop
from tests.redis.driver import Driver, publish
from tests.redis.programs import RedisServer


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop and kill."""
    with RedisServer.run(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[FaultyLine]:
    async with FaultyLine.to(redis_server.port) as line:
        yield line


def through(line: FaultyLine, url: str) -> str:
    return f"redis://127.0.0.1:{line.port}?{url.partition('?')[2]}"


async def test_a_connection_that_is_cut_is_made_again_and_nothing_is_done_twice(
    line: FaultyLine, driver: Driver, url: str
) -> None:
    random = Random(5)
    await driver.create()
    async with Driver.run(through(line, url)) as other:
        given = []
        for n in range(300):
            given.append(other.begin(other.append(publish(n))))
            await asyncio.sleep(random.uniform(0, 0.004))
            if n % 20 == 19:
                await other.works_again(1 + n // 20)
                line.cut()
        async with asyncio.timeout(PATIENCE):
            outcomes = [(await each)[0] for each in given]
        await driver.sync()
        await other.sync()
        assert [payload for _, payload in driver.heard] == list(range(300))
        assert outcomes == [[Assignment(seq, False)] for seq, _ in driver.heard]
        assert other.synchronized > 5
        assert other.states()[-1].seq <= 300
        assert other.seq == {"t": 300}


@on_one_loop
async def test_a_batch_that_is_asked_again_has_the_outcome_of_the_first_time(
    driver: Driver, url: str, redis_server: RedisServer
) -> None:
    prefix = url.partition("prefix=")[2]
    batch = Scripts(prefix).batch
    await driver.create()
    appends: list[Any] = [(1, "t", "et", 0, "", False, 0, [], [])] * 2
    tell = [(5, text_of(encode(Told("me", "k", b""))))]
    with redis_server.admin as admin:
        admin.hset(f"{prefix}:s:me", "connection", 2)

        def ask(connection_: int, number: int, operations: list[Any]) -> bytes:
            header = encode(("me", connection_, number % SLOTS, number, "x", operations))
            return admin.execute_command("EVALSHA", batch.sha, 0, header)  # type: ignore[no-any-return]

        first = ask(2, 1, tell)
        assert ask(2, 2, appends) != first
        assert ask(2, 1, appends) == first
        with pytest.raises(Exception, match="STALE"):
            ask(1, 3, appends)
        assert ask(2, 1 + SLOTS, appends) != first, "it has the same slot, and is another one"
        assert set(admin.hkeys(f"{prefix}:s:me")) == {b"connection", b"1", b"2"}


@pytest.mark.parametrize("mute", ["stall", "swallow"])
async def test_a_half_open_connection_is_noticed(impatient: None, line: FaultyLine, url: str, mute: str) -> None:
    async with Driver.run(through(line, url)) as driver:
        await driver.create()
        if mute == "stall":
            line.stall()
        else:
            line.swallows = True
        given = driver.begin(driver.append(publish("late")))
        await eventually(lambda: bool(driver.reason))
        line.heal()
        await driver.works_again(2)
        async with asyncio.timeout(PATIENCE):
            assert await given == [[Assignment(1, False)]]
        assert await driver.payloads() == ["late"]


async def test_a_redis_that_hangs_is_noticed_and_goes_on(impatient: None, own_server: RedisServer) -> None:
    async with Driver.run(own_server.url("t")) as driver:
        await driver.create()
        own_server.signal(signal.SIGSTOP)
        given = driver.begin(driver.append(publish("late")))
        await eventually(lambda: bool(driver.reason))
        own_server.signal(signal.SIGCONT)
        await driver.works_again(2)
        assert await given == [[Assignment(1, False)]]
        await driver.sync()
        assert await driver.payloads() == ["late"]


@pytest.mark.parametrize("victim", ["pubsub", "normal"])
async def test_a_killed_client_comes_back(
    impatient: None, driver: Driver, redis_server: RedisServer, victim: str
) -> None:
    """``normal``: the connection for reads."""
    await driver.create()
    with redis_server.admin as admin:
        admin.execute_command("CLIENT", "KILL", "TYPE", victim)
    await driver.works_again(2)
    assert await driver.publish(publish("again")) == [Assignment(1, False)]
    assert await driver.payloads() == ["again"]


@on_one_loop
async def test_a_deaf_connection_is_made_anew(
    impatient: None, driver: Driver, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers commands, and its pushes do not come: somebody took away the right to the channel, say."""
    await driver.create()
    async with Driver.run(url) as other:
        monkeypatch.setattr(driver.engine._main, "_push", lambda *_: None)  # type: ignore[attr-defined]
        await other.publish(publish("unheard"))
        await eventually(lambda: "push" in "".join(map(str, driver.told)))
        await driver.works_again(2)
        assert driver.seq == {"t": 1}


class Line:
    """A connection, as the canary sees it."""

    def __init__(self) -> None:
        self.heard = 0
        self.reason = ""

    def send(self, encoded: bytes, replied: object) -> None:
        pass

    def close(self, reason: str) -> None:
        self.reason = self.reason or reason


@on_one_loop
async def test_a_second_connection_is_deaf_if_nothing_comes_and_not_if_pages_come_before_the_pong() -> None:
    """Thousands of pages may be asked for at a time. They would be asked for again on a new connection."""
    canary = Canary("me", Scripts("t"), Random(), lambda _: None, lambda: 0)
    main, second = Line(), Line()
    canary.begin(main, second, 1)  # type: ignore[arg-type]
    for beats in (10, BEATS_MISSED):
        for _ in range(beats):
            canary.take(encode((1, "g", 0.0)))
            second.heard += beats == 10
            canary._beat()
    assert main.reason == ""
    canary.take(encode((1, "g", 0.0)))
    canary._beat()
    canary.stop()
    assert main.reason == "no page was read for 6 s"


@on_one_loop
async def test_a_connection_is_not_deaf_while_records_come_before_the_canary() -> None:
    seen = 0
    canary = Canary("me", Scripts("t"), Random(), lambda _: None, lambda: seen)
    main, second = Line(), Line()
    canary.begin(main, second, 1)  # type: ignore[arg-type]
    for beats in (10, BEATS_MISSED - 1):
        for _ in range(beats):
            seen += beats == 10
            second.heard += 1
            canary._beat()
    assert main.reason == ""
    canary._beat()
    canary.stop()
    assert main.reason == "no push came back for 6 s"


@on_one_loop
async def test_a_push_that_was_lost_is_noticed_by_the_next_beat(
    impatient: None, driver: Driver, url: str, redis_server: RedisServer
) -> None:
    await driver.create()
    prefix = url.partition("prefix=")[2]
    with redis_server.admin as admin:
        admin.hincrby(f"{prefix}:meta", "n", 1)
    await eventually(lambda: driver.synchronized == 2)
    assert [told for told in driver.told if "the last pushes were lost" in str(told)] != []


@on_one_loop
async def test_a_push_that_was_lost_is_noticed_at_the_next_one(
    driver: Driver, url: str, redis_server: RedisServer
) -> None:
    await driver.create()
    with redis_server.admin as admin:
        admin.publish(f"{url.partition('prefix=')[2]}:records", encode([3, []]))
    await eventually(lambda: driver.synchronized == 2)
    assert [told for told in driver.told if "a push was lost" in str(told)] != []


@on_one_loop
async def test_a_record_of_a_newer_version_is_told_and_the_states_come_again(
    driver: Driver, url: str, redis_server: RedisServer
) -> None:
    await driver.create()
    prefix = url.partition("prefix=")[2]
    with redis_server.admin as admin:
        admin.publish(f"{prefix}:records", b"\x92\x02\x91\x91\x63")
    await eventually(lambda: driver.synchronized == 2)
    assert [told for told in driver.told if "does not know" in str(told)] != []
    assert driver.states()[-1].seq == 0


@on_one_loop
async def test_scripts_that_were_flushed_are_loaded_again(driver: Driver, redis_server: RedisServer) -> None:
    await driver.create()
    with redis_server.admin as admin:
        admin.script_flush()
    assert await driver.publish(publish()) == [Assignment(1, False)]


@on_one_loop
async def test_a_primary_that_is_none_any_more_does_not_say_that_all_is_known(own_server: RedisServer) -> None:
    """Else a client that knows the newer epoch of the new primary would get the old one back."""
    async with Driver.run(own_server.url("t")) as driver:
        with own_server.admin as admin:
            admin.replicaof("127.0.0.1", str(own_server.port))
            answers: list[Failure | None] = []
            driver.engine.sync(answers.append)
            await eventually(lambda: "READONLY" in driver.reason)
            assert answers == []
            admin.replicaof("NO", "ONE")
            await driver.works_again(2)
            await eventually(lambda: answers == [None])


@on_one_loop
async def test_a_primary_that_is_cut_off_from_its_replicas_does_not_say_that_all_is_known(
    own_server: RedisServer,
) -> None:
    async with Driver.run(own_server.url("t")) as driver:
        with own_server.admin as admin:
            admin.config_set("min-replicas-to-write", 1)
            answers: list[Failure | None] = []
            driver.engine.sync(answers.append)
            await eventually(lambda: len(answers) == 1)
            assert isinstance(answers[0], NotStored)
            admin.config_set("min-replicas-to-write", 0)
        await driver.sync()


@on_one_loop
async def test_an_engine_whose_redis_is_away_waits_and_withdraws(own_server: RedisServer) -> None:
    async with Driver.run(own_server.url("t")) as driver:
        await driver.create()
        own_server.kill()
        await eventually(lambda: bool(driver.reason))
        given = [driver.begin(driver.append(publish(n))) for n in range(3)]
        driver.engine.withdraw(given[1].set_result)
        own_server.start()
        await driver.works_again(2)
        async with asyncio.timeout(PATIENCE):
            await given[0]
            await given[2]
        assert [payload for _, payload in driver.heard] in ([0, 2], [0, 1, 2])


@on_one_loop
async def test_an_answer_that_nobody_expected_does_not_end_the_attempts(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy of another kind may stand before Redis, say."""
    instance = driver.engine._instance  # type: ignore[attr-defined]
    connect = instance.connect

    async def answer_wrongly(*_: object) -> object:
        monkeypatch.setattr(instance, "connect", connect)
        raise KeyError("run_id")

    monkeypatch.setattr(instance, "connect", answer_wrongly)
    driver.engine._main.close("cut")  # type: ignore[attr-defined]
    await driver.works_again(2)
    assert "Internal error at the connection to Redis" in caplog.text


@on_one_loop
async def test_few_questions_wait_while_redis_is_away(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "WAITING", 3)
    async with Driver.run(own_server.url("t")) as driver:
        await driver.create()
        own_server.kill()
        await eventually(lambda: bool(driver.reason))
        waiting = [asyncio.create_task(driver.read()) for _ in range(3)]
        await asyncio.sleep(0)
        assert isinstance(await driver.read(), NotStored)
        own_server.start()
        assert [type(each) for each in await asyncio.gather(*waiting)] == [TopicNotFound] * 3, "it has another epoch"


class Stopping(Driver):
    """A driver that stops its Redis at the first state."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.url("t"))
        self._server: RedisServer | None = server

    def apply(self, record: Record) -> None:
        super().apply(record)
        if self._server is not None:
            self._server.signal(signal.SIGSTOP)
            self._server = None


@on_one_loop
async def test_a_redis_that_hangs_while_states_are_read_is_noticed(impatient: None, own_server: RedisServer) -> None:
    async with Driver.run(own_server.url("t")) as driver:
        await driver.ask(*[driver.creation(f"t{n}") for n in range(3000)])
    stopping = Stopping(own_server)
    await stopping.engine.start(stopping)
    assert "no answer" in stopping.reason
    own_server.signal(signal.SIGCONT)
    await stopping.works_again(1)
    assert len(stopping.names) == 3000
    await stopping.engine.stop()


@on_one_loop
async def test_thousands_of_batches_are_withdrawn_at_once(own_server: RedisServer) -> None:
    async with Driver.run(own_server.url("t")) as driver:
        await driver.create()
        own_server.signal(signal.SIGSTOP)
        given = [driver.begin(driver.append(publish(n))) for n in range(8000)]
        takers = [piece.batch.outcomes for pieces in ("_sent", "_waiting")
                  for piece in getattr(driver.engine._batches, pieces)]  # type: ignore[attr-defined]  # fmt: skip
        assert len(takers) == 8000
        begin = time.process_time()
        for taker in takers:
            driver.engine.withdraw(taker)
        assert time.process_time() - begin < 0.5, "in the square of their number it took 10 s"
        own_server.signal(signal.SIGCONT)
        await driver.sync()
        assert not any(each.done() for each in given)
        assert driver.seq["t"] < 8000


async def test_a_redis_that_is_not_there_at_the_start_is_waited_for(own_server: RedisServer) -> None:
    own_server.kill()
    async with Driver.run(own_server.url("t")) as driver:
        assert "Connect call failed" in driver.reason or "refused" in driver.reason
        assert driver.told == [f"failing: {driver.reason}"]
        own_server.start()
        await driver.works_again(1)
        await driver.create()


@on_one_loop
async def test_a_server_connects_while_messages_come_without_a_pause(driver: Driver, url: str) -> None:
    """The first push after the entry comes in the same read as the reply."""
    await driver.create()
    busy = True

    async def publish_on() -> None:
        while busy:
            driver.begin(driver.append(publish()))
            await asyncio.sleep(0)

    publishing = asyncio.create_task(publish_on())
    try:
        for _ in range(5):
            async with Driver.run(url) as other:
                assert [told for told in other.told if isinstance(told, str)] == ["synced"]
    finally:
        busy = False
        await publishing


@on_one_loop
async def test_states_and_records_of_topics_that_change_meanwhile_agree(driver: Driver, url: str) -> None:
    names = [f"t{n}" for n in range(3000)]
    await driver.ask(*[driver.creation(name) for name in names])
    busy = True

    async def change() -> None:
        n = 0
        while busy:
            n += 1
            name = names[n * 7 % len(names)]
            await driver.publish(publish(n), name=name)
            if n % 5 == 0:
                await driver.delete(names[n * 11 % len(names)])
                await driver.ask_one(driver.creation(f"n{n}"))

    changing = asyncio.create_task(change())
    await asyncio.sleep(0.01)
    async with Driver.run(url) as other:
        busy = False
        await changing
        await other.sync()
        known = {name: (driver.epoch[name], driver.seq[name]) for name in other.names}
        assert {name: (other.epoch[name], other.seq[name]) for name in other.names} == known
        early = other.told[: other.told.index("synced")]
        stated: set[str] = set()
        for record in early:
            if isinstance(record, State):
                stated.add(record.name)
            elif isinstance(record, Appended):
                assert record.name in stated, "its state has what the record tells"
        assert stated >= other.names
