"""A client of Server-Sent Events that moves from server to server, with the cursor of a stream of several topics."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from pubsub.http import cursors
from pubsub.http.app_keys import STREAMS
from pubsub.sse import cursors as sse_cursors
from pubsub.sse.cursors import Cursors
from pubsub.sse.encoding import topic_key
from pubsub.sse.run_log import KeptCursor, RunLog
from tests.harness import Server, eventually, run_server
from tests.http.test_sse_topics import events
from tests.redis.driver import prefixes
from tests.redis.programs import RedisServer
from tests.sse.test_encoding import topic
from tests.streams import Stream

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

PATH = "/events?topic=room.*&topic=orders"
TOPICS = ("room.1", "room.2", "orders")


@pytest.fixture
async def two(redis_server: RedisServer, short_waits: None) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers in this process, on a real Redis."""
    url = redis_server.url(f"cursors-{next(prefixes)}")
    async with run_server(journal_url=url) as one, run_server(journal_url=url) as other:
        await one.create(*TOPICS)
        yield one, other


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that have too many topics for an id."""
    monkeypatch.setattr(sse_cursors, "MOST_IN_ID", 1)


async def begin(server: Server) -> tuple[str, list[tuple[str, int]]]:
    """The last id of a stream that is cut off before its last two events, and these."""
    stream = await Stream.open(server.port, PATH)
    await stream.info("subscribed")
    await stream.info("subscribed")
    for number, name in enumerate((*TOPICS, *TOPICS)):
        server.publish_locally(name, [number])
    got = await events(stream, 4)
    stream.close()
    return stream.last_id, [(name, seq) for name in TOPICS for seq in (1, 2) if (name, seq) not in got]


async def check_resumed(server: Server, last_id: str, missed: list[tuple[str, int]]) -> None:
    """It gets these events, and nothing twice."""
    stream = await Stream.open(server.port, PATH, last_id=last_id)
    for _ in range(2):
        recovered = await stream.info("recovered")
        assert recovered["recovered"] is True
    assert sorted(await events(stream, 2)) == sorted(missed)
    server.publish_locally("orders", [1])
    assert await events(stream, 1) == [("orders", 3)]
    stream.close()


async def test_an_id_of_few_topics_is_known_to_any_server(
    two: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that had the stream may have been killed: nobody is asked."""
    one, other = two
    last_id, missed = await begin(one)
    monkeypatch.setattr(cursors, "ask_others", None)
    await check_resumed(other, last_id, missed)


async def test_a_server_asks_the_one_that_had_the_stream(two: tuple[Server, Server], logged: None) -> None:
    one, other = two
    last_id, missed = await begin(one)
    assert len(other.app[STREAMS].cursors) == 0
    await check_resumed(other, last_id, missed)


async def test_a_server_that_ends_hands_its_cursors_over(two: tuple[Server, Server], logged: None) -> None:
    one, other = two
    last_id, missed = await begin(one)
    await eventually(lambda: one.connections == 0)
    await one.runner.cleanup()
    await eventually(lambda: len(other.app[STREAMS].cursors) == 1)
    await check_resumed(other, last_id, missed)


async def test_a_cursor_that_no_server_knows_is_told(two: tuple[Server, Server], logged: None) -> None:
    one, other = two
    last_id, _ = await begin(one)
    unknown = f"{'0' * 16}{last_id[16:]}"
    again = await Stream.open(other.port, PATH, last_id=unknown)
    assert (await again.info("recovered"))["recovered"] is False
    again.close()
    wrong = await Stream.open(other.port, PATH, last_id="x" * 1025)
    assert wrong.status == 400


def filled(runs: int) -> RunLog:
    """A log with a position in each of two topics, and events of both in turns."""
    log = RunLog(secrets.token_hex(8), {7: 1, 8: 2})
    for number in range(runs):
        log.begin_run(7 + number % 2, 10 + number)
    return log


async def test_a_cursor_is_the_same_elsewhere() -> None:
    known = Cursors(lambda: 0.0, lambda delay, callback: None)
    cursor = filled(5)
    known.adopt(cursor.keep())
    assert known.find(cursor.token) == {7: 1, 8: 2}
    for key, seq in ((7, 10), (8, 11), (7, 12), (8, 13), (7, 14)):
        assert known.find(f"{cursor.token}.{key:x}.{seq}") == cursor.positions_at(key, seq) is not None
    known.adopt(cursor.keep())
    assert len(known) == len(known.ended) == 1


async def test_messages_are_small_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Cursors(lambda: 0.0, lambda delay, callback: None)
    kept = [filled(runs) for runs in (1, 4000, *50 * [100], 3)]
    for cursor in kept:
        known.adopt(cursor.keep())
    told = list(cursors.messages(known))
    assert max(map(len, told)) <= 64 * 1024
    tokens = [each.token for message in told for each in cursors._decode_cursors(message)]
    assert tokens == [cursor.token for cursor in reversed(kept) if len(cursor.keep().run_keys) < 8 * 4000]
    monkeypatch.setattr(cursors, "MOST_IN_ALL", 10_000)
    few = [each for message in cursors.messages(known) for each in cursors._decode_cursors(message)]
    assert 0 < len(few) < 10
    assert isinstance(few[0], KeptCursor)


async def test_a_key_is_the_same_in_all_processes() -> None:
    """It stands in ids that go from server to server."""
    assert topic_key(topic()) == 8946596779877517756
