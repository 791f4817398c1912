"""Rules that delete idle topics, with several servers: a topic that any of them uses stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pubsub.cluster import idle
from pubsub.http.app_keys import BROKER, CLUSTER
from tests.cluster.servers import Servers, run_servers
from tests.harness import eventually, run_server
from tests.redis.driver import prefixes
from tests.redis.programs import RedisServer

pytestmark = [pytest.mark.asyncio(loop_factories=["uvloop"]), pytest.mark.usefixtures("short_waits")]

DELAY = 0.15  # seconds


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([{"pattern": "idle.*", "delete_idle_sec": DELAY}]))
    return str(path)


def has(servers: Servers, name: str, topic: str) -> bool:
    return servers[name].app[BROKER].exists(topic)


async def test_a_topic_with_a_subscriber_at_another_server_stays(rules: str) -> None:
    async with run_servers("a", "b", topic_rules_file=rules) as servers:
        await servers.create("idle.used", "idle.free")
        async with servers["b"].client() as client:
            await client.subscribe("idle.used")
            await eventually(lambda: not has(servers, "a", "idle.free"))
            await asyncio.sleep(3 * DELAY)
            assert has(servers, "a", "idle.used")
        await eventually(lambda: not has(servers, "a", "idle.used"))


async def test_only_the_first_server_deletes(rules: str) -> None:
    """The others hear of it from the journal, which these servers do not share."""
    async with run_servers("a", "b", topic_rules_file=rules) as servers:
        await servers.create("idle.free")
        await eventually(lambda: not has(servers, "a", "idle.free"))
        await asyncio.sleep(2 * DELAY)
        assert has(servers, "b", "idle.free")
        await servers["a"].runner.cleanup()  # its successor takes over
        await eventually(lambda: not has(servers, "b", "idle.free"))


async def test_a_topic_stays_while_a_server_does_not_answer(rules: str) -> None:
    async with run_servers("a", "b", topic_rules_file=rules) as servers:
        await servers.create("idle.free")
        servers.cut("b")
        await asyncio.sleep(4 * DELAY)
        assert has(servers, "a", "idle.free")


async def test_an_answer_that_cannot_be_read_keeps_the_topic_for_now_and_stops_nothing(rules: str) -> None:
    async with run_servers("a", "b", topic_rules_file=rules) as servers:
        questions = servers["b"].app[CLUSTER].questions
        asked, answer = asyncio.Event(), questions._answerers[idle.KIND]

        async def answer_wrongly(_: bytes) -> bytes:
            asked.set()
            return b"?"

        questions.answer_with(idle.KIND, answer_wrongly)
        await servers.create("idle.free")
        await asked.wait()
        questions.answer_with(idle.KIND, answer)
        assert has(servers, "a", "idle.free")
        await eventually(lambda: not has(servers, "a", "idle.free"))


async def test_each_question_about_a_topic_is_answered(rules: str) -> None:
    """Its rule may be read again while the first one waits."""
    async with run_servers("a", "b") as servers:
        await servers.create("t")
        broker = servers["a"].app[BROKER]
        assert broker.idle.others is not None
        answers: list[str] = []
        for name in ("first", "second"):
            broker.idle.others(broker.topic("t"), lambda _, name=name: answers.append(name))  # type: ignore[misc]
        await eventually(lambda: answers == ["first", "second"])


async def test_a_short_use_at_another_server_counts(rules: str) -> None:
    async with run_servers("a", "b", topic_rules_file=rules) as servers:
        await servers.create("idle.used")
        topic = servers["b"].app[BROKER].topic("idle.used")
        end = asyncio.get_running_loop().time() + 4 * DELAY
        while asyncio.get_running_loop().time() < end:
            topic.uses += 1  # as a subscription does that ends at once
            await asyncio.sleep(DELAY / 20)
        assert has(servers, "a", "idle.used")
        await eventually(lambda: not has(servers, "a", "idle.used"))


async def test_a_topic_of_a_real_engine_is_deleted_everywhere(rules: str, redis_server: RedisServer) -> None:
    url = redis_server.url(f"idle-{next(prefixes)}")
    async with (
        run_server(journal_url=url, topic_rules_file=rules) as one,
        run_server(journal_url=url, topic_rules_file=rules) as other,
    ):
        await one.create("idle.used", "idle.free")
        async with other.client() as client:
            await client.subscribe("idle.used")
            for server in (one, other):
                await eventually(lambda server=server: not server.app[BROKER].exists("idle.free"))  # type: ignore[misc]
            await asyncio.sleep(3 * DELAY)
            assert one.app[BROKER].exists("idle.used")
            await client.publish("idle.used", 1)
            assert [each["type"] for each in client.others] == ["event"], "it was never told of an end"
        for server in (one, other):
            await eventually(lambda server=server: not server.app[BROKER].exists("idle.used"))  # type: ignore[misc]
        await one.create("idle.used")
        assert (await other.get("/topics/idle.used"))["seq"] == 0
