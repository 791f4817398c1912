"""The Application made from the settings: its parts and their limits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pubsub.app import create_app, followed, make_broker, make_quotas, make_shared
from pubsub.core.clock import Clock
from pubsub.core.journal import JournalError
from pubsub.http.app_keys import BROKER, SERVICES
from pubsub.http.identities import IDENTITIES
from pubsub.journals.shared.engine import Follower, State
from pubsub.journals.shared.inbox import ROOM
from pubsub.protocol.errors import BadRequest, LimitExceeded, ServerFull
from pubsub.protocol.requests import TopicOptions
from tests.credentials import SECRET
from tests.harness import REPOSITORY, clean_environment, make_settings, on_one_loop


@pytest.mark.parametrize(("asked", "machine", "limit"), [(0, 50, 50), (10, 50, 10), (80, 50, 50), (10, 0, 10)])
def test_there_are_never_more_connections_than_descriptors(
    asked: int, machine: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pubsub.app.connections_of_machine", lambda: machine)
    quotas = make_quotas(make_settings(max_connections=asked))
    quotas.check_room(limit - 1)
    with pytest.raises(ServerFull, match=f"{limit} connections"):
        quotas.check_room(limit)


@on_one_loop
async def test_a_server_asks_nothing_of_its_clients_unless_it_is_told_to() -> None:
    app = create_app(make_settings())
    assert not app[SERVICES].rules.asks
    assert app[IDENTITIES].rest_is_open


@pytest.mark.parametrize("chosen", [{"jwt_secret": SECRET}, {"rate_limit_msgs_per_sec": 1.0}])
@on_one_loop
async def test_settings_about_access_reach_what_enforces_them(chosen: dict[str, Any]) -> None:
    app = create_app(make_settings(**chosen, api_keys="ops:admin:secret"))
    assert bool(app[IDENTITIES].tokens) == ("jwt_secret" in chosen)
    assert app[SERVICES].rules.asks
    assert not app[IDENTITIES].rest_is_open


@on_one_loop
async def test_limits_of_topics_reach_the_broker() -> None:
    broker = create_app(make_settings(max_topics=1, ring_buffer_size=7))[BROKER]
    broker.create_topic("a")
    assert broker.topic("a").history == 7
    with pytest.raises(LimitExceeded):
        broker.create_topic("b")


class TopicsAtOnce:
    """An engine that tells of many topics at its start."""

    server = "s"
    lasting = ""

    async def start(self, follower: Follower) -> None:
        names = [f"t.{number}" for number in range(10 * ROOM)]
        for name in names:
            follower.apply(State(name, "e", TopicOptions(history=1)))
        follower.synced(names, lambda _: True)

    async def stop(self) -> None:
        pass


async def test_a_server_begins_with_all_topics_of_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsub.journals.shared.choice.make_engine", lambda *_: TopicsAtOnce())
    settings, loop = make_settings(journal_url="redis://anywhere"), asyncio.get_running_loop()
    journal = make_shared(settings, Clock(), loop)
    assert journal is not None
    broker = make_broker(settings, Clock(), loop, journal)
    async for _ in followed(journal):
        assert broker.knows_topics
        assert broker.topic_count == 10 * ROOM


@on_one_loop
async def test_durable_topics_need_a_directory_that_can_be_made(tmp_path: Path) -> None:
    broker = create_app(make_settings(data_dir=str(tmp_path)))[BROKER]
    assert broker.durable_journal is None
    with pytest.raises(BadRequest, match="history"):
        broker.create_topic("a", TopicOptions(history=2_000_000))


ALONE = """
import asyncio, sys
from pubsub.app import create_app
from pubsub.settings import Settings

async def make() -> None:
    create_app(Settings(port=0))

asyncio.run(make())
several = ("pubsub.journals.shared", "pubsub.journals.redis", "pubsub.journals.workers", "pubsub.cluster", "redis")
print([name for name in sys.modules if name.startswith(several)])
"""


def test_a_server_alone_imports_nothing_of_several(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ended.stdout == "[]\n"


@on_one_loop
async def test_a_journal_of_an_unknown_kind_ends_the_start() -> None:
    with pytest.raises(JournalError, match=r"JOURNAL_URL: expected a URL that begins with one of redis:.*got 'kafka'"):
        create_app(make_settings(journal_url="kafka://broker:9092"))
