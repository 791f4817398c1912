"""The blocking subscriber: its thread, its ends, and what it hands over; over the real server."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_type
from urllib.request import urlopen

import pytest

from pubsub.client import Event, Gap, Notice, Position, Publisher, Subscriber, errors
from pubsub.client.testing import LocalServer, running_server
from tests.credentials import SECRET, make_token
from tests.harness import PATIENCE, REPOSITORY, eventually, new_id, on_one_loop


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running_server() as started:
        yield started


@pytest.fixture(scope="module")
def publisher(server: LocalServer) -> Iterator[Publisher]:
    with Publisher(server.url) as opened:
        yield opened


@pytest.fixture
def topic(server: LocalServer) -> str:
    name = f"topic.{new_id()}"
    server.create_topic(name)
    return name


def payloads(events: Subscriber[Any], count: int) -> list[Any]:
    """Take so many items, which must be events."""
    taken = [events.get(PATIENCE) for _ in range(count)]
    assert all(isinstance(item, Event) for item in taken), taken
    return [item.payload for item in taken if isinstance(item, Event)]


def test_events_come_in_order_and_from_a_position(server: LocalServer, publisher: Publisher, topic: str) -> None:
    publisher.publish(topic, 0)
    with Subscriber(server.url, topic, last_n=1) as events:
        publisher.publish_many(topic, [1, 2])
        assert [item.payload for item in islice(events, 2) if isinstance(item, Event)] == [0, 1]
        position = events.position
        assert position[topic].seq == 2
    publisher.publish(topic, 3)
    with Subscriber(server.url, topic, resume={name: each.to_json() for name, each in position.items()}) as events:
        assert payloads(events, 2) == [2, 3]


def test_the_position_before_the_first_event(server: LocalServer, publisher: Publisher, topic: str) -> None:
    publisher.publish(topic, 0)
    with Subscriber(server.url, topic) as events:
        assert events.position[topic].seq == 1


def test_waiting_has_a_limit(server: LocalServer, publisher: Publisher, topic: str) -> None:
    with Subscriber(server.url, topic) as events:
        with pytest.raises(TimeoutError, match=r"nothing came within 0\.01 s"):
            events.get(0.01)
        publisher.publish(topic, 1)
        assert payloads(events, 1) == [1]


def test_the_first_use_opens_it(server: LocalServer, publisher: Publisher, topic: str) -> None:
    publisher.publish(topic, 1)
    events = Subscriber(server.url, topic, last_n=1)
    assert payloads(events, 1) == [1]
    events.close()
    events.close()
    assert list(events) == []
    with pytest.raises(RuntimeError, match="is closed"):
        events.get()


def test_what_cannot_be_opened_may_be_later(server: LocalServer, publisher: Publisher) -> None:
    topic, threads = f"topic.{new_id()}", threading.enumerate()
    events = Subscriber(server.url, topic, last_n=1)
    with pytest.raises(errors.TopicNotFound):
        events.open()
    assert threading.enumerate() == threads
    server.create_topic(topic)
    publisher.publish(topic, 1)
    with events:
        assert payloads(events, 1) == [1]


def test_values_that_are_not_valid() -> None:
    with pytest.raises(ValueError, match="the URL must look like"):
        Subscriber("127.0.0.1", "orders")
    with pytest.raises(TypeError, match="expected keywords of Client and of subscribe, got lastn"):
        Subscriber("http://127.0.0.1", "orders", lastn=5)  # type: ignore[call-overload]


@dataclass
class Order:
    amount: int


def test_payloads_of_a_type(server: LocalServer, publisher: Publisher, topic: str) -> None:
    publisher.publish_many(topic, [{"amount": 1}, {"amount": "x"}, {"amount": 3}])
    with Subscriber(server.url, topic, type=Order, last_n=3) as events:
        assert payloads(events, 1) == [Order(1)]
        with pytest.raises(errors.PayloadError, match="seq 2"):
            events.get(PATIENCE)
        assert events.position[topic].seq == 2
        last = events.get(PATIENCE)
        assert isinstance(last, Event)
        assert assert_type(last.payload, Order) == Order(3)


def test_gaps_and_notices() -> None:
    with running_server() as server, Publisher(server.url) as publisher:
        server.create_topic("orders")
        publisher.publish("orders", 1)
        with Subscriber(server.url, "orders", notices=True, last_n=1) as events:
            assert payloads(events, 1) == [1]
            before = events.position["orders"]
            server.restart()
            server.create_topic("orders")
            items = [events.get(PATIENCE) for _ in range(1)]
            while not isinstance(items[-1], Gap):
                assert isinstance(items[-1], Notice)
                items.append(events.get(PATIENCE))
            assert items[-1].reason == "created_again"
            assert events.position["orders"] == Position(items[-1].epoch, 0) != before


def test_a_lost_connection_loses_nothing(server: LocalServer, publisher: Publisher, topic: str) -> None:
    with Subscriber(server.url, topic) as events:
        for number in range(3):
            server.disconnect_all()
            publisher.publish(topic, number)
        assert payloads(events, 3) == [0, 1, 2]


def test_an_operator_ends_it(server: LocalServer, publisher: Publisher, topic: str) -> None:
    with Subscriber(server.url, topic, client_id=topic) as events:
        publisher.publish(topic, 1)
        assert payloads(events, 1) == [1]
        server.disconnect(topic)
        for _ in range(2):
            with pytest.raises(errors.Disconnected) as ended:
                events.get(PATIENCE)
            assert ended.value.code == 4403


@on_one_loop
async def test_it_works_where_a_loop_runs(server: LocalServer, publisher: Publisher, topic: str) -> None:
    with Subscriber(server.url, topic) as events:
        publisher.publish(topic, 1)
        assert payloads(events, 1) == [1]


def test_a_slow_thread_presses_back_and_loses_nothing(server: LocalServer, publisher: Publisher) -> None:
    topic = f"topic.{new_id()}"
    server.create_topic(topic, history=1000)
    with Subscriber(server.url, topic, client_id=topic, max_incoming=10) as events:
        for number in range(400):
            publisher.publish(topic, [number, "x" * 50_000])
        assert queued(server) > 0
        assert [number for number, _ in payloads(events, 400)] == list(range(400))


def queued(server: LocalServer) -> int:
    """Return the number of messages that wait in the server for its only client."""
    with urlopen(f"{server.url}/clients") as answer:
        (row,) = json.loads(answer.read())["clients"]
    return int(row["queued"])


def test_a_state_is_loaded_and_loaded_again(server: LocalServer, publisher: Publisher, topic: str) -> None:
    threads: list[threading.Thread] = []

    def load() -> list[Any]:
        threads.append(threading.current_thread())
        return [event.payload for event in server.published(topic)]

    publisher.publish(topic, 1)
    with Subscriber(server.url, topic, load=load) as events:
        assert events.state == [1]
        publisher.publish_many(topic, [2, 3])  # they come together, so the second one waits when the first is taken
        assert payloads(events, 1) == [2]
        events.reload()
        assert events.state == [1, 2, 3]
        assert events.position[topic].seq == 3
        publisher.publish(topic, 4)
        assert payloads(events, 1) == [4]
        assert events.position[topic].seq == 4
    assert threading.main_thread() not in threads


def test_a_token_function() -> None:
    with running_server(jwt_secret=SECRET) as server:
        server.create_topic("orders")
        with Subscriber(server.url, "orders", token=lambda: make_token(subscribe=["orders"])) as events:
            assert events.position["orders"].seq == 0


def test_another_thread_may_close_it(server: LocalServer, topic: str) -> None:
    with Subscriber(server.url, topic) as events:
        closing = threading.Timer(0.01, events.close)
        closing.start()
        assert list(events) == []
        closing.join()


def test_an_interrupt_ends_the_wait_alone(server: LocalServer, publisher: Publisher, topic: str) -> None:
    with Subscriber(server.url, topic) as events:
        interrupting = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            events.get()
        publisher.publish(topic, 1)
        assert payloads(events, 1) == [1]


def test_one_that_is_forgotten_is_closed(server: LocalServer, topic: str) -> None:
    threads = threading.enumerate()
    events = Subscriber(server.url, topic).open()
    del events
    gc.collect()
    assert threading.enumerate() == threads


@on_one_loop
async def test_nothing_is_left(server: LocalServer, publisher: Publisher, topic: str) -> None:
    threads, files = threading.enumerate(), os.listdir("/proc/self/fd")
    with Subscriber(server.url, topic) as events:
        publisher.publish(topic, 1)
        assert payloads(events, 1) == [1]
    assert threading.enumerate() == threads
    await eventually(lambda: len(os.listdir("/proc/self/fd")) == len(files))  # the server's end is in this process too


SCRIPT = """
import os, sys
from pubsub.client import Subscriber
events = Subscriber(sys.argv[1], sys.argv[2], last_n=2)
print(events.get(10).payload, flush=True)
child = os.fork()
if child:
    os.waitpid(child, 0)
try:
    print(events.get(10).payload, flush=True)
except RuntimeError as error:
    print("fork" in str(error), flush=True)
"""


def test_the_end_of_a_program_closes_it(server: LocalServer, publisher: Publisher, topic: str) -> None:
    """The resolver is used too, whose thread is another one to end; and a child can't use its parent's."""
    publisher.publish_many(topic, [1, 2])
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    url = server.url.replace("127.0.0.1", "localhost")
    ended = subprocess.run(
        [*command, url, topic], cwd=REPOSITORY, capture_output=True, text=True, timeout=3 * PATIENCE, check=False
    )
    said = [line for line in ended.stderr.splitlines() if not line.startswith("Executing <")]  # on a busy machine
    assert (said, ended.returncode) == ([], 0)
    assert ended.stdout.split() == ["1", "True", "2"]
