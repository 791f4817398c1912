"""The server for users' tests: it is the real one, can fail on request, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pubsub.client import Publisher, errors
from pubsub.client.testing import LocalServer, running_server
from tests.harness import PATIENCE, REPOSITORY, Client, on_one_loop


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running_server() as started:
        yield started


def test_topics_and_messages(server: LocalServer) -> None:
    server.create_topic("orders", sender=True)
    with Publisher(server.url) as publisher:
        published = publisher.publish("orders", {"amount": 5})
    (event,) = server.published("orders")
    assert (event.topic, event.seq, event.id, event.payload) == ("orders", 1, published.id, {"amount": 5})
    assert (event.sender, bool(event.epoch), event.ts[-1]) == (None, True, "Z")


def test_published_has_all_that_the_topic_keeps(server: LocalServer) -> None:
    server.create_topic("large", history=12)
    with Publisher(server.url) as publisher:
        for number in range(14):
            publisher.publish("large", [number, "x" * 1_000_000])
    assert [event.payload[0] for event in server.published("large")] == list(range(2, 14))


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("a", {}, errors.TopicExists),
        ("b", {"ring": 5}, errors.BadRequest),
        ("b", {"history": -5}, errors.BadRequest),
        ("a b", {}, errors.BadRequest),
    ],
)
def test_a_topic_that_cannot_be_created(name: str, options: dict[str, Any], error: type[Exception]) -> None:
    with running_server() as server:
        server.create_topic("a")
        with pytest.raises(error):
            server.create_topic(name, **options)
        with pytest.raises(errors.TopicNotFound):
            server.published("b")


@on_one_loop
async def test_clients_are_cut_off_or_disconnected(server: LocalServer) -> None:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.ws_connect("/ws?client_id=alice") as first,
        http.ws_connect("/ws?client_id=bob") as second,
    ):
        assert server.disconnect("alice") == 1
        assert await Client(first).closed() == 4403
        server.disconnect_all()
        assert await Client(second).closed() == 1006
    assert server.disconnect("alice") == 0


def test_a_restart_loses_what_is_not_durable() -> None:
    with running_server() as server, Publisher(server.url) as publisher:
        server.create_topic("kept", durable=True)
        server.create_topic("lost")
        publisher.publish("kept", 1)
        url = server.url
        server.restart()
        assert server.url == url
        assert publisher.publish("kept", 2).seq == 2
        with pytest.raises(errors.TopicNotFound):
            publisher.publish("lost", 2)


@on_one_loop
async def test_a_stopped_server_refuses_connections_and_has_said_so() -> None:
    with running_server() as server:
        async with aiohttp.ClientSession(server.url) as http:
            async with http.ws_connect("/ws") as websocket:
                client = Client(websocket)
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                assert (await client.receive())["reconnect_after_ms"] == 0
                assert await client.closed() == 1001
                await stopping
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.get("/health")
            with pytest.raises(RuntimeError, match="the server is stopped"):
                server.create_topic("orders")
            server.stop()
            server.start()
            server.start()
            async with http.get("/health") as response:
                assert response.status == 200


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with running_server() as server, Publisher(server.url) as publisher:  # what the first one imports and keeps open
        server.create_topic("orders", durable=True)
    threads, files = threading.enumerate(), os.listdir("/proc/self/fd")
    with running_server() as server, Publisher(server.url) as publisher:
        server.create_topic("orders", durable=True)
        publisher.publish("orders", 1)
        server.restart()
        publisher.publish("orders", 2)
    assert threading.enumerate() == threads
    assert os.listdir("/proc/self/fd") == files
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_server_that_cannot_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = threading.enumerate()
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="Address already in use"),
        running_server(port=taken.getsockname()[1]),
    ):
        pass
    with pytest.raises(OSError, match="can't listen"), running_server(host=f"unix:{tmp_path}/none/s"):
        pass
    assert threading.enumerate() == threads
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ring": 5}, "expected names of settings, such as ring_buffer_size, got ring"),
        ({"ping_period_sec": 0}, "PING_PERIOD_SEC: got 0, expected a number above 0"),
        ({"mode": "fast"}, "MODE: got 'fast', expected one of release, debug"),
        ({"api_keys": "x"}, "API_KEYS: got a value that is not shown"),
    ],
)
def test_settings_that_are_not_valid(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told), running_server(**settings):
        pass


def test_settings_come_from_the_arguments_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEYS", "ops:admin:key")
    (tmp_path / ".env").write_text("MAX_TOPICS=1\n")
    with running_server() as server, Publisher(server.url) as publisher:
        server.create_topic("a")
        server.create_topic("b")
        publisher.publish("a", 1)


PROJECT = {"pytest.ini": """
[pytest]
addopts = --numprocesses=2 -p no:schemathesis
asyncio_default_fixture_loop_scope = function
filterwarnings = error
""", "conftest.py": 'pytest_plugins = ["pubsub.client.testing"]', "test_it.py": """
import asyncio
import pytest
from pubsub.client import Publisher
from pubsub.client.testing import LocalServer, running_server

@pytest.fixture(scope="session")
def shared():
    with running_server(ring_buffer_size=2) as server:
        yield server

def publish(server: LocalServer, topic: str) -> None:
    server.create_topic(topic)
    with Publisher(server.url) as publisher:
        publisher.publish(topic, 1)
    assert [event.payload for event in server.published(topic)] == [1]

@pytest.mark.parametrize("number", range(4))
def test_plain(pubsub_server, number):
    publish(pubsub_server, "orders")

def test_shared(shared):
    publish(shared, "orders")

@pytest.mark.asyncio
async def test_asyncio(pubsub_server):
    await asyncio.to_thread(publish, pubsub_server, "orders")

@pytest.mark.anyio
async def test_anyio(pubsub_server):
    publish(pubsub_server, "orders")
""", "imported/conftest.py": "from pubsub.client.testing import pubsub_server", "imported/test_more.py": """
def test_more(pubsub_server):
    pubsub_server.create_topic("orders")
"""}  # fmt: skip


def test_the_fixture_in_a_users_project(tmp_path: Path) -> None:
    """Beside xdist, pytest-asyncio and anyio, with warnings as errors."""
    (tmp_path / "imported").mkdir()
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stdout
    assert "\n8 passed" in ended.stdout
