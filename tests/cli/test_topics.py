"""``pubsub topics`` and ``pubsub presence``."""

from __future__ import annotations

import uuid

import pytest

from tests.cli.running import Commands, create, start
from tests.credentials import API_KEYS, SECRET
from tests.harness import ForkedServer, ServerProcess, free_port


@pytest.fixture
def topic(server: ServerProcess) -> str:
    name = f"room.{uuid.uuid4().hex[:8]}"
    create(server, name, presence=True)
    create(server, f"{name}.b")
    return name


def test_topics_for_people(run: Commands, topic: str) -> None:
    run("pub", topic, "1")
    done = run("topics", topic)
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{topic}    0 subscribers  seq 1\n{topic}.b  0 subscribers  seq 0\n"
    assert run("topics", f"{topic}.b").out == f"{topic}.b  0 subscribers  seq 0\n"
    assert run("topics", f"{topic}.c").out == ""


def test_topics_for_programs(run: Commands, topic: str) -> None:
    lines = run("topics", "--json", topic).lines
    assert [(line["name"], line["seq"], line["subscribers"]) for line in lines] == [(topic, 0, 0), (f"{topic}.b", 0, 0)]


def test_prefix_that_no_topic_can_have(run: Commands) -> None:
    done = run("topics", "a b")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("pubsub topics: prefix: expected ASCII letters")


def test_clients_of_a_topic(run: Commands, server: ServerProcess, topic: str) -> None:
    run("pub", topic, "1")
    flags = (topic, "--last-n", "1", "--url", server.url)
    assert run("presence", topic).out == ""
    with start("sub", *flags, "--client", "bob") as bob, start("sub", *flags, "--client", "al\x9bice") as alice:
        for process in (bob, alice):
            assert process.stdout is not None
            assert process.stdout.readline()
        done = run("presence", topic)
        assert (done.status, done.out, done.err) == (0, "al\\u009bice\nbob\n", "")
        (line,) = run("presence", topic, "--json").lines
        assert (line["topic"], line["count"], [each["client_id"] for each in line["clients"]]) == (
            topic,
            2,
            ["al\x9bice", "bob"],
        )
        bob.terminate()
        alice.terminate()


def test_topic_without_presence(run: Commands, topic: str) -> None:
    done = run("presence", f"{topic}.b")
    assert (done.status, done.out) == (1, "")
    assert "presence" in done.err


@pytest.mark.parametrize("command", [("topics",), ("presence", "t")])
def test_server_that_cannot_be_reached(command: tuple[str, ...], run: Commands) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run(*command, url=url)
    assert (done.status, done.out) == (3, "")
    assert done.err == f"pubsub {command[0]}: cannot reach {url}: Connection refused\n"


def test_api_key_is_enough(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with ForkedServer(environment={"JWT_SECRET": SECRET, "API_KEYS": API_KEYS}) as server:
        run = Commands(server, capfd)
        monkeypatch.setenv("PUBSUB_API_KEY", "ops-key")
        assert run("topics").status == 0
        assert run("presence", "none").err == "pubsub presence: topic not found\n"
        monkeypatch.setenv("PUBSUB_API_KEY", "shop-key")
        assert run("pub", "none", "1").err == "pubsub pub: topic 'none' does not exist: --create creates it\n"
        assert run("pub", "--create", "none", "1").status == 1
        monkeypatch.delenv("PUBSUB_API_KEY")
        done = run("topics")
        assert done.status == 1
        assert "expected an API key" in done.err
