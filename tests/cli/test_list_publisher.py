"""Lists of messages that the server takes, and those that it does not take at once."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import Raw
from yarl import URL

from pubsub.cli import list_publisher
from pubsub.cli.list_publisher import ListPublisher
from pubsub.client import BadRequest, Publisher, TooBig, TopicNotFound, Unreachable
from pubsub.client.credentials import Credentials
from tests.cli.running import create
from tests.harness import ForkedServer, ServerProcess, free_port

LARGE = b'"' + 1000 * b"x" + b'"'
DEEP = b"[" * 600 + b"]" * 600  # the server refuses it


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer(
        "--max-message-bytes", "65536", "--rate-limit-msgs-per-sec", "1000000", "--rate-limit-burst", "300"
    ) as process:
        yield process


@pytest.fixture
def topic(server: ServerProcess) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    create(server, name)
    return name


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the lists that are sent."""
    sizes: list[int] = []
    publish_many = Publisher.publish_many

    def note(self: Publisher, topic: str, payloads: Sequence[Raw], *, ttl_sec: float | None = None) -> object:
        sizes.append(len(payloads))
        return publish_many(self, topic, payloads, ttl_sec=ttl_sec)

    monkeypatch.setattr(Publisher, "publish_many", note)
    return sizes


def open_publisher(server: ServerProcess, topic: str) -> ListPublisher:
    return ListPublisher(URL(server.url), Credentials(), topic, wait=20)


def publish(publisher: ListPublisher, payloads: list[bytes]) -> Iterator[int]:
    """Publish; yield the seq of each message."""
    for published in publisher.publish_lists([Raw(payload) for payload in payloads], ttl_sec=None):
        yield from (each.seq for each in published)


def test_list_that_is_too_large_is_divided(server: ServerProcess, topic: str, lists: list[int]) -> None:
    with open_publisher(server, topic) as publisher:
        assert list(publish(publisher, [LARGE] * 100)) == list(range(1, 101))
    assert lists == [100, 50, 50]


def test_largest_list_of_the_rate_bounds_later_ones(server: ServerProcess, topic: str, lists: list[int]) -> None:
    with open_publisher(server, topic) as publisher:
        assert list(publish(publisher, [b"1"] * 700)) == list(range(1, 701))
        assert list(publish(publisher, [b"1"] * 200)) == list(range(701, 901))
    assert lists == [700, 350, 175, 175, 350, 175, 175, 175, 25]


def test_lists_have_a_bounded_size(
    server: ServerProcess, topic: str, lists: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_publisher, "LIST_BYTES", 2 * len(LARGE))
    with open_publisher(server, topic) as publisher:
        assert list(publish(publisher, [LARGE, LARGE, b"1", LARGE, b'"' + 5000 * b"x" + b'"', b"2"])) == [
            1,
            2,
            3,
            4,
            5,
            6,
        ]
    assert lists == [2, 2]  # the others are alone


def test_messages_before_a_refused_one_are_published_and_none_after_it(server: ServerProcess, topic: str) -> None:
    seqs: list[int] = []
    with open_publisher(server, topic) as publisher:
        with pytest.raises(BadRequest, match=r"^payload: expected at most 512 levels"):
            seqs.extend(publish(publisher, [b"1", b"2", b"3", DEEP, b"4"]))
        assert publisher.publish(Raw(b"5"), id=None, ttl_sec=None, expect_seq=3).seq == 4


def test_message_that_is_too_large(server: ServerProcess, topic: str) -> None:
    with open_publisher(server, topic) as publisher, pytest.raises(TooBig):
        list(publish(publisher, [b"1", b'"' + 70_000 * b"x" + b'"']))


def test_topic_that_does_not_exist(server: ServerProcess, topic: str) -> None:
    told = r"none' does not exist: --create creates it"
    with open_publisher(server, f"{topic}.none") as publisher, pytest.raises(TopicNotFound, match=told):
        list(publish(publisher, [b"1", b"2"]))


def test_server_that_is_not_there_is_told_at_once() -> None:
    url = URL(f"http://127.0.0.1:{free_port()}")
    publisher = ListPublisher(url, Credentials(), "t", wait=1000)
    with pytest.raises(Unreachable, match="Connection refused"):
        list(publish(publisher, [b"1"]))


def test_restart_of_the_server_is_survived(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path))
    with ThreadPoolExecutor(1) as pool, ForkedServer(*flags) as first:
        create(first, "orders", durable=True)
        with open_publisher(first, "orders") as publisher:
            assert list(publish(publisher, [b"1", b"2"])) == [1, 2]
            first.stop(signal.SIGKILL)
            publishing = pool.submit(list, publish(publisher, [b"3", b"4"]))
            with ForkedServer(*flags, "--port", str(first.port)):
                assert publishing.result() == [3, 4]
