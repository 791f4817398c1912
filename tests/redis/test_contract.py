"""The contract of a topic's log, over a real Redis and a real Valkey: the same tests as for the other journals."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pubsub.journals.redis import scripts
from tests.journals.test_contract import *  # noqa: F403
from tests.journals.world import World
from tests.redis.driver import prefixes
from tests.redis.link import START, RedisLink
from tests.redis.programs import RedisServer

del test_racing_writers_lose_no_update  # noqa: F821 - 15 s of round trips; test_batches has a race

CLOCK = "local time = call('TIME')"


@pytest.fixture(scope="session", params=["redis", "valkey"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture  # type: ignore[no-redef]
def world(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    make = scripts._text

    def make_stepping(name: str, prefix: str) -> str:
        text = make(name, prefix)
        assert CLOCK in text
        return text.replace(CLOCK, f"local time = {{{START} + tonumber(call('GET', PREFIX .. 'step') or 0), 0}}")

    monkeypatch.setattr(scripts, "_text", make_stepping)
    links: list[RedisLink] = []

    def make_link(world: World) -> RedisLink:
        links.append(RedisLink(world, redis_server, next(prefixes)))
        return links[-1]

    world = World(None, shared=True, make_link=make_link)
    yield world
    world.close()
    for link in links:
        link.close()


@pytest.fixture  # type: ignore[no-redef]
def steered_world(world: World) -> World:
    return world
