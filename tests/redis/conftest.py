"""One server of each engine for all tests of a process; each test has a prefix of its own.

The contract and the starts run on both engines. All other tests run on Redis: they are about this project's side of the
connection, and Valkey has the commands, scripts and pushes of Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pubsub.journals.redis import canary, connection
from tests.redis.driver import Driver, prefixes
from tests.redis.programs import RedisServer


@pytest.fixture(scope="session")
def engine_name() -> str:
    """Name the engine; modules that run on both have a fixture of their own."""
    return "redis"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory, engine_name: str) -> Iterator[RedisServer]:
    flags = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer.run(tmp_path_factory.mktemp(engine_name), *flags, name=engine_name) as server:
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
