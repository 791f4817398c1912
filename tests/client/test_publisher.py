"""The publisher over REST: with the real server, and with a server and a network that fail at every point."""

from __future__ import annotations

import json
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from certificate import trusting, write_certificate

from pubsub.client import Published, Publisher, errors
from pubsub.client.testing import LocalServer, running_server
from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import PATIENCE, REPOSITORY, ForkedServer, free_port, new_id
from tests.scripted_http import (
    Connection,
    Script,
    ScriptedServer,
    answers,
    ask,
    body_of,
    drips,
    loses_answer_of,
    passes_on,
    resets,
    response,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server for all tests here. A test has a topic of its own."""
    with running_server() as started:
        yield started


@pytest.fixture
def topic(server: LocalServer) -> str:
    name = f"topic.{new_id()}"
    server.create_topic(name)
    return name


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    slept: list[float] = []
    monkeypatch.setattr("pubsub.client.retries.time.sleep", slept.append)
    return slept


def payloads(server: LocalServer, topic: str) -> list[Any]:
    return [each.payload for each in server.published(topic)]


# Publishing


def test_a_message_is_in_its_topic(server: LocalServer, topic: str) -> None:
    chosen = new_id()
    with Publisher(server.url) as publisher:
        first = publisher.publish(topic, {"amount": 99.5})
        second = publisher.publish(topic, None, id=chosen, ttl_sec=60, expect_seq=1)
    assert (first.topic, first.seq, first.duplicate) == (topic, 1, False)
    assert (second.id, second.seq) == (chosen, 2)
    assert [(each.id, each.payload) for each in server.published(topic)] == [
        (first.id, {"amount": 99.5}),
        (chosen, None),
    ]


def test_a_list_is_published_in_order(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher:
        published = publisher.publish_many(topic, (number for number in range(5)))
        assert publisher.publish_many(topic, []) == []
    assert [each.seq for each in published] == [1, 2, 3, 4, 5]
    assert [each.id for each in server.published(topic)] == [each.id for each in published]


def test_a_list_is_published_whole_or_not_at_all(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher, pytest.raises(errors.BadRequest, match=r"\[0\]\.ttl_sec"):
        publisher.publish_many(topic, [1, 2], ttl_sec=-1)
    assert payloads(server, topic) == []


def test_an_id_that_was_seen_is_a_duplicate(server: LocalServer) -> None:
    topic, repeated = f"topic.{new_id()}", new_id()
    server.create_topic(topic, dedup_sec=60)
    with Publisher(server.url) as publisher:
        published = [publisher.publish(topic, number, id=repeated) for number in range(2)]
    assert [(each.seq, each.duplicate) for each in published] == [(1, False), (1, True)]
    assert payloads(server, topic) == [0]


def test_long_lists_take_several_requests() -> None:
    def script(connection: Connection) -> None:
        for _ in range(3):
            count = len(body_of(connection.read()))
            outcomes = {"topic": "orders", "seq": [1] * count, "id": ["x"] * count}
            connection.send(response(200, outcomes, connection="keep-alive"))

    with ScriptedServer(script) as server, Publisher(server.url) as publisher:
        assert len(publisher.publish_many("orders", range(2001))) == 2001
    assert [len(body_of(each)) for each in server.requests] == [1000, 1000, 1]


def test_large_lists_take_several_requests(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher:
        publisher.publish_many(topic, ["x" * 400_000] * 5)
    assert len(server.published(topic)) == 5


def test_a_list_that_fails_in_the_middle_tells_what_is_published(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher, pytest.raises(errors.TooBig) as failed:
        publisher.publish_many(topic, ["x" * 700_000, "y" * 400_000, "z" * 1_100_000])
    assert failed.value.index == 2
    assert [payload[0] for payload in payloads(server, topic)] == ["x", "y"]


# What can't succeed is not tried again


@pytest.mark.parametrize(
    ("publish", "error"),
    [
        (lambda publisher, topic: publisher.publish(f"{topic}.none", 1), errors.TopicNotFound),
        (lambda publisher, topic: publisher.publish(topic, 1, id="x"), errors.BadRequest),
        (lambda publisher, topic: publisher.publish(topic, "x" * 2**21), errors.TooBig),
        (lambda publisher, topic: publisher.publish(topic, 1, expect_seq=7), errors.Conflict),
        (lambda publisher, topic: publisher.publish(topic, object()), errors.PayloadError),
        (lambda publisher, topic: publisher.publish(topic, 2**70, ttl_sec="x"), errors.PubsubError),
    ],
    ids=["no topic", "bad id", "too big", "conflict", "no JSON", "bad ttl"],
)
def test_a_refusal_is_an_error_of_its_own(
    server: LocalServer, topic: str, pauses: list[float], publish: Callable[[Publisher, str], object], error: type
) -> None:
    with Publisher(server.url) as publisher, pytest.raises(error):
        publish(publisher, topic)
    assert pauses == []
    assert payloads(server, topic) == []


def test_a_conflict_has_the_seq_of_the_topic(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher:
        publisher.publish(topic, 1)
        with pytest.raises(errors.Conflict, match="expected 0") as conflict:
            publisher.publish(topic, 2, expect_seq=0)
    assert (conflict.value.seq, conflict.value.status) == (1, 409)


NONSENSE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a long line": b"HTTP/1.1 200 " + b"x" * 70_000,
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "a page": response(200, b"<html>"),
    "another JSON": response(200, [1]),
    "outcomes of two": response(200, {"topic": "orders", "seq": [1, 2], "id": ["x", "y"]}),
    "deep JSON": response(200, b"[" * 100_000),
    "another site": response(404, b"<html>"),
    "a redirect": response(301, b"", location="https://elsewhere.example/"),
    "too much": response(200, b"", content_length="99999999999"),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_a_fault_of_the_server(kind: str) -> None:
    with (
        ScriptedServer(answers(NONSENSE[kind])) as server,
        Publisher(server.url) as publisher,
        pytest.raises(errors.ServerFault, match="expected"),
    ):
        publisher.publish("orders", 1)
    assert len(server.requests) == 1


def test_a_limit_that_does_not_pass(pauses: list[float]) -> None:
    with running_server(rate_limit_msgs_per_sec=1, rate_limit_burst=2) as server, Publisher(server.url) as publisher:
        server.create_topic("orders")
        with pytest.raises(errors.LimitExceeded, match="lists of at most 2 messages"):
            publisher.publish_many("orders", [1, 2, 3])
    assert pauses == []


# What may pass is tried again, with the same id


TEMPORARY: dict[str, Script] = {
    "rate": answers(response(429, {"error": "too many requests"}, retry_after="0")),
    "rate of a proxy": answers(response(429, b"<html>")),
    "drain": answers(response(503, {"error": "server is shutting down"})),
    "bad gateway": answers(response(502, b"<html>")),
    "reset": resets,
    "end": answers(b""),
    "half an answer": answers(response(200)[:-5]),
    "half a head": answers(response(200)[:30]),
    "a cut chunk": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    "request timeout": answers(response(408, {"error": "too slow"})),
}


@pytest.mark.parametrize("kind", TEMPORARY)
def test_a_failure_that_may_pass_is_repeated_with_the_same_id(kind: str, pauses: list[float]) -> None:
    with (
        ScriptedServer(TEMPORARY[kind], TEMPORARY[kind], answers(response(200))) as server,
        Publisher(server.url) as publisher,
    ):
        published = publisher.publish("orders", 1)
    assert {body_of(each)["id"] for each in server.requests} == {published.id}
    assert len(server.requests) == 3
    assert len(pauses) == 2


def test_pauses_grow_and_are_random(pauses: list[float]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Publisher(url) as publisher, pytest.raises(errors.Unreachable, match=f"{url}: Connection refused") as failed:
        publisher.publish("orders", 1)
    assert type(failed.value) is errors.Unreachable  # and not AnswerTimeout: nothing was sent
    assert [0.1 * 2**n <= pause <= 0.2 * 2**n for n, pause in enumerate(pauses)] == [True] * 5
    assert len({pause / 2**n for n, pause in enumerate(pauses)}) == 5


@pytest.mark.parametrize("text", ["3", formatdate(4_000_000_000, usegmt=True)])
def test_the_server_says_how_long_to_wait(pauses: list[float], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("pubsub.client.rest_replies.time.time", lambda: 4_000_000_000 - 3)
    with (
        ScriptedServer(answers(response(429, {"error": "slow"}, retry_after=text)), answers(response(200))) as server,
        Publisher(server.url) as publisher,
    ):
        publisher.publish("orders", 1)
    assert 3 < pauses[0] < 4


def test_a_wait_beyond_the_time_limit_is_not_begun(pauses: list[float]) -> None:
    with (
        ScriptedServer(answers(response(429, {"error": "slow"}, retry_after="60"))) as server,
        Publisher(server.url) as publisher,
        pytest.raises(errors.RateLimited, match="slow") as limited,
    ):
        publisher.publish("orders", 1)
    assert limited.value.retry_after_ms == 60_000
    assert pauses == []


def test_the_rate_of_a_server() -> None:
    with running_server(rate_limit_msgs_per_sec=1) as server, Publisher(server.url, retries=0) as publisher:
        server.create_topic("orders")
        publisher.publish("orders", 1)
        with pytest.raises(errors.RateLimited) as limited:
            publisher.publish("orders", 2)
    assert limited.value.retry_after_ms == 1000


def test_without_retries_nothing_is_sent_twice() -> None:
    with (
        ScriptedServer(resets) as server,
        Publisher(server.url, retries=0) as publisher,
        pytest.raises(errors.AnswerTimeout, match="sent once, and may or may not have been served"),
    ):
        publisher.publish("orders", 1)


def test_an_unknown_outcome_stays_unknown(pauses: list[float]) -> None:
    with (  # then connections are refused
        ScriptedServer(resets) as server,
        Publisher(server.url) as publisher,
        pytest.raises(errors.AnswerTimeout, match="6 times"),
    ):
        publisher.publish("orders", 1)


# Lost answers


def test_a_message_whose_answer_is_lost_is_published_once(server: LocalServer, pauses: list[float]) -> None:
    topic = f"topic.{new_id()}"
    server.create_topic(topic, dedup_sec=60)
    with ScriptedServer(loses_answer_of(server.url), passes_on(server.url)) as proxy, Publisher(proxy.url) as publisher:
        published = publisher.publish(topic, 1)
    assert (published.seq, published.duplicate) == (1, True)
    assert payloads(server, topic) == [1]


def test_a_conflict_with_ones_own_message_is_none(server: LocalServer, topic: str, pauses: list[float]) -> None:
    with ScriptedServer(loses_answer_of(server.url), passes_on(server.url)) as proxy, Publisher(proxy.url) as publisher:
        published = publisher.publish(topic, 1, expect_seq=0)
    assert (published.seq, published.duplicate) == (1, True)
    assert [each.id for each in server.published(topic)] == [published.id]


def test_a_conflict_with_the_message_of_another(server: LocalServer, topic: str, pauses: list[float]) -> None:
    def overtakes(connection: Connection) -> None:
        connection.read()
        with Publisher(server.url) as other:
            other.publish(topic, "other")
        connection.reset()

    with (
        ScriptedServer(overtakes, passes_on(server.url)) as proxy,
        Publisher(proxy.url) as publisher,
        pytest.raises(errors.Conflict),
    ):
        publisher.publish(topic, 1, expect_seq=0)
    assert payloads(server, topic) == ["other"]


def test_a_conflict_in_a_topic_that_keeps_nothing(server: LocalServer, pauses: list[float]) -> None:
    topic = f"topic.{new_id()}"
    server.create_topic(topic, history=0)
    with (
        ScriptedServer(loses_answer_of(server.url), passes_on(server.url)) as proxy,
        Publisher(proxy.url) as publisher,
        pytest.raises(
            errors.AnswerTimeout, match="may be the one with seq 1, or not be published: the topic no longer"
        ),
    ):
        publisher.publish(topic, 1, expect_seq=0)


def test_a_conflict_with_a_topic_that_was_created_again(server: LocalServer, topic: str, pauses: list[float]) -> None:
    with (
        ScriptedServer(resets, passes_on(server.url)) as proxy,
        Publisher(proxy.url) as publisher,
        pytest.raises(errors.Conflict),
    ):
        publisher.publish(topic, 1, expect_seq=5)


def test_a_conflict_that_cannot_be_looked_into(server: LocalServer, topic: str, pauses: list[float]) -> None:
    def forbids(connection: Connection) -> None:
        connection.send(ask(server.url, connection.read()))
        connection.read()
        connection.send(response(403, {"error": "not allowed"}))

    with (
        ScriptedServer(loses_answer_of(server.url), forbids) as proxy,
        Publisher(proxy.url) as publisher,
        pytest.raises(errors.AnswerTimeout, match="may be the one with seq 1, or not be published: not allowed"),
    ):
        publisher.publish(topic, 1, expect_seq=0)


def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    """Every message is in the durable topic once, though the server dies in the middle of requests."""
    flags = ("--data-dir", str(tmp_path), "--port", str(free_port()))
    url = f"http://127.0.0.1:{flags[-1]}"
    published: list[Published] = []
    half = threading.Event()

    def publish(publisher: Publisher) -> None:
        for number in range(200):
            published.append(publisher.publish("orders", number))
            if number == 100:
                half.set()

    with (
        Publisher(url) as publisher,
        ThreadPoolExecutor() as pool,
        ForkedServer(*flags) as server,
    ):
        options = {"name": "orders", "durable": True, "dedup_sec": 60, "history": 1000}
        urlopen(f"{url}/topics", json.dumps(options).encode()).close()
        publishing = pool.submit(publish, publisher)
        assert half.wait(PATIENCE)
        server.stop(signal.SIGKILL)
        with ForkedServer(*flags):
            publishing.result(PATIENCE)
            with urlopen(f"{url}/topics/orders/messages?after=0") as kept:
                ids = [each["message"]["id"] for each in json.loads(kept.read())["messages"]]
    assert [each.seq for each in published] == list(range(1, 201))
    assert ids == [each.id for each in published]


# The time limit


def is_silent(connection: Connection) -> None:
    """Read a request and answer nothing, as long as the client is there."""
    connection.read()
    assert not connection.has_more


@pytest.mark.parametrize("script", [drips, is_silent])
def test_the_time_limit_is_for_the_whole_call(script: Script) -> None:
    with (
        ScriptedServer(script) as server,
        Publisher(server.url, timeout=0.2) as publisher,
        pytest.raises(errors.AnswerTimeout, match="timed out"),
    ):
        publisher.publish("orders", 1)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has this time limit")
def test_a_dead_connection_leaves_time_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router may have lost it: nothing is acknowledged. A peer with full buffers is the same to the kernel."""
    monkeypatch.setattr("pubsub.client.timed_socket.SILENT_SHARE", 0.02)
    left_open: list[socket.socket] = []

    def takes_nothing(connection: Connection) -> None:
        left_open.append(connection.socket.dup())

    with ScriptedServer(takes_nothing, answers(response(200))) as server, Publisher(server.url) as publisher:
        publisher.publish("orders", "x" * 8 * 2**20)
    left_open[0].close()


# Connections


def test_a_connection_is_kept() -> None:
    kept = response(200, connection="keep-alive")
    with ScriptedServer(answers(kept, kept, kept)) as server, Publisher(server.url) as publisher:
        for number in range(3):
            publisher.publish("orders", number)


def test_a_connection_that_the_server_has_closed_is_replaced(server: LocalServer) -> None:
    with running_server() as server, Publisher(server.url, retries=0) as publisher:
        for _ in range(3):
            server.create_topic("orders")
            publisher.publish("orders", 1)
            server.restart()


def test_a_kept_connection_that_fails_is_replaced_at_once(pauses: list[float]) -> None:
    def fails_later(connection: Connection) -> None:
        connection.read()
        connection.send(response(200, connection="keep-alive"))
        resets(connection)

    with ScriptedServer(fails_later, answers(response(200))) as server, Publisher(server.url) as publisher:
        for number in range(2):
            publisher.publish("orders", number)
    assert pauses == [0.0]


def test_after_one_dead_connection_no_kept_one_is_trusted() -> None:
    """A router has lost two connections: the first one tells it, the second one would be silent."""
    kept = response(200, connection="keep-alive")
    left_open: list[socket.socket] = []

    def waits(connection: Connection) -> None:
        connection.read()
        left_open.append(connection.socket.dup())

    def answers_both(connection: Connection) -> None:
        waits(connection)
        for each in left_open:
            each.sendall(kept)
        published.wait(PATIENCE)
        readable, _, _ = select.select(left_open, [], [], PATIENCE)
        Connection(readable[0], []).reset()

    published = threading.Barrier(2)
    scripts = (waits, answers_both, answers(response(200)))
    with ScriptedServer(*scripts) as server, Publisher(server.url, retries=1) as publisher:
        with ThreadPoolExecutor(2) as pool:
            assert len(list(pool.map(lambda number: publisher.publish("orders", number), range(2)))) == 2
        published.wait(PATIENCE)
        publisher.publish("orders", 2)
    for each in left_open:
        each.close()


def test_an_answer_that_comes_before_the_request_is_whole_is_read() -> None:
    def refuses(connection: Connection) -> None:
        connection.socket.recv(10)
        connection.send(response(413, {"error": "body too large"}))

    with (
        ScriptedServer(refuses) as server,
        Publisher(server.url) as publisher,
        pytest.raises(errors.TooBig, match="body too large"),
    ):
        publisher.publish("orders", "x" * 8 * 2**20)


def test_an_interrupt_ends_a_call_and_its_connection() -> None:
    def interrupts(connection: Connection) -> None:
        connection.read()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert not connection.has_more

    with ScriptedServer(interrupts) as server, Publisher(server.url) as publisher, pytest.raises(KeyboardInterrupt):
        publisher.publish("orders", 1)


def test_threads_share_a_publisher(server: LocalServer, topic: str) -> None:
    with Publisher(server.url) as publisher, ThreadPoolExecutor(8) as pool:
        ready = threading.Barrier(8)

        def publish(_: int) -> list[int]:
            ready.wait(PATIENCE)
            return [publisher.publish(topic, number).seq for number in range(10)]

        seqs = list(pool.map(publish, range(8)))
    assert sorted(seq for each in seqs for seq in each) == list(range(1, 81))
    assert all(each == sorted(each) for each in seqs)


FORKING = """
import os, sys
from pubsub.client import Publisher
publisher = Publisher(sys.argv[1])
publisher.publish(sys.argv[2], "before")
child = os.fork()
for number in range(20):
    publisher.publish(sys.argv[2], number)
if child:
    os.waitpid(child, 0)
"""


def test_a_publisher_is_used_on_both_sides_of_a_fork(server: LocalServer, topic: str) -> None:
    """It has a connection before the fork. Nothing is left open at the exits: a warning would be told."""
    script = [sys.executable, "-X", "dev", "-W", "error", "-c", FORKING, server.url, topic]
    ended = subprocess.run(script, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(each.payload for each in server.published(topic)[1:]) == sorted(2 * list(range(20)))


# Addresses and credentials


def test_tls_with_a_ca_of_ones_own(tmp_path: Path, pauses: list[float]) -> None:
    cert_file, key_file = write_certificate(tmp_path, "localhost")
    with running_server(tls_cert_file=str(cert_file), tls_key_file=str(key_file)) as server:
        server.create_topic("orders")
        with Publisher(server.url, tls=ssl.create_default_context(cafile=cert_file)) as publisher:
            assert [publisher.publish("orders", number).seq for number in range(2)] == [1, 2]
        with Publisher(server.url) as publisher, pytest.raises(errors.UntrustedCertificate, match="is not trusted"):
            publisher.publish("orders", 1)
    assert pauses == []


@pytest.mark.parametrize("host", ["unix:{folder}/s", "::1", "localhost"])
def test_other_addresses(host: str, tmp_path: Path) -> None:
    with running_server(host=host.format(folder=tmp_path)) as server, Publisher(server.url) as publisher:
        server.create_topic("orders")
        assert publisher.publish("orders", 1).seq == 1


def test_a_server_below_a_path() -> None:
    with ScriptedServer(answers(response(200))) as server, Publisher(f"{server.url}/live/") as publisher:
        publisher.publish("a/b", 1)
    assert server.requests[0].startswith(b"POST /live/topics/a%2Fb/messages HTTP/1.1\r\n")


@pytest.mark.parametrize("credentials", [{"api_key": "shop-key"}, {"token": make_token(publish=["orders"])}])
def test_a_key_or_a_token(credentials: dict[str, Any]) -> None:
    with running_server(api_keys=API_KEYS, jwt_secret=SECRET) as server:
        server.create_topic("orders")
        with Publisher(server.url, **credentials) as publisher:
            publisher.publish("orders", 1)
            with pytest.raises(errors.Forbidden if "token" in credentials else errors.TopicNotFound):
                publisher.publish("other", 1)
        with Publisher(server.url) as nobody, pytest.raises(errors.Unauthorized):
            nobody.publish("orders", 1)


def test_a_token_function_is_called_for_each_attempt(pauses: list[float]) -> None:
    tokens = iter(["first", "second"])
    with (
        ScriptedServer(resets, answers(response(200))) as server,
        Publisher(server.url, token=lambda: next(tokens)) as publisher,
    ):
        publisher.publish("orders", 1)
    assert [b"Bearer first" in each for each in server.requests] == [True, False]


@pytest.mark.parametrize("token", [lambda: 1 / 0, lambda: None, lambda: "two words"])
def test_a_token_function_that_fails(token: Callable[[], str]) -> None:
    with Publisher("http://127.0.0.1:1", token=token) as publisher, pytest.raises(errors.TokenError, match="raised"):
        publisher.publish("orders", 1)


@pytest.mark.parametrize(
    "values",
    [
        {"url": "127.0.0.1:8080"},
        {"url": "unix:"},
        {"timeout": 0},
        {"retries": -1},
        {"api_key": "a\nb"},
        {"tls": trusting()},
    ],
    ids=lambda values: "".join(values),
)
def test_a_value_that_is_not_valid(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        Publisher(**{"url": "http://127.0.0.1:8080"} | values)
