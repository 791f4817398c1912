"""One redis-server for all tests of a process; each test has a prefix of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pubsub.journals.redis import canary, connection
from tests.redis.driver import Driver, prefixes
from tests.redis.programs import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    flags = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer.run(tmp_path_factory.mktemp("redis"), *flags) as server:
        yield server


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url(next(prefixes))


@pytest.fixture
async def driver(url: str) -> AsyncIterator[Driver]:
    async with Driver.run(url) as driver:
        yield driver


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats and time limits of an engine that notices soon."""
    monkeypatch.setattr(canary, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
