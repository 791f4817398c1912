"""``pubsub pub``: one message, lines, and the ends of both."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest

from tests.cli.running import Commands, start
from tests.harness import PATIENCE, ForkedServer, Json, ServerProcess, free_port

ID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer("--rate-limit-msgs-per-sec", "0", "--max-message-bytes", "4096") as process:
        yield process


@pytest.fixture
def topic(run: Commands) -> str:
    name = f"orders-{uuid.uuid4().hex[:8]}"
    run("pub", "--create", name, "0")
    return name


def events(run: Commands, topic: str, count: int) -> list[Json]:
    """Return the last messages of a topic."""
    return run("sub", topic, "--json", "--last-n", str(count), "--count", str(count)).lines


def payloads(run: Commands, topic: str, count: int) -> list[object]:
    return [event["payload"] for event in events(run, topic, count)]


def test_message_is_published_as_it_was_written(run: Commands, topic: str) -> None:
    done = run("pub", topic, '{"n": 1.50}')
    assert (done.status, done.out, done.err) == (0, "", "")
    sub = run("sub", topic, "--json", "--last-n", "1", "--count", "1")
    assert '"payload":{"n": 1.50}' in sub.out


def test_acknowledgement_is_a_line_of_json(run: Commands, topic: str) -> None:
    done = run("pub", topic, "1", "--json", "--id", ID)
    assert done.lines == [{"topic": topic, "id": ID, "seq": 2, "duplicate": False}]


def test_lines_are_published_in_order(run: Commands, topic: str) -> None:
    done = run("pub", topic, "--json", stdin=b"".join(b"%d\n" % number for number in range(20_000)))
    assert (done.status, done.err) == (0, "")
    assert [line["seq"] for line in done.lines] == list(range(2, 20_002))
    assert payloads(run, topic, 100) == list(range(19_900, 20_000))


def test_text_and_blank_lines(run: Commands, topic: str) -> None:
    assert run("pub", topic, "--text", 'say "hi"').status == 0
    assert run("pub", topic, "--text", stdin=b"null\n\nb").status == 0
    assert run("pub", topic, stdin=b"1\n\n \r\n2\n").status == 0
    assert payloads(run, topic, 6) == ['say "hi"', "null", "", "b", 1, 2]


def test_line_that_is_no_json_ends_the_command(run: Commands, topic: str) -> None:
    done = run("pub", topic, stdin=b"1\n2\nthree\n4\n")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("pubsub pub: line 3: expected JSON, got 'three' (--text publishes text as it is): ")
    assert done.err.endswith("; 2 messages published before\n")
    assert payloads(run, topic, 3) == [0, 1, 2]


def test_message_that_the_server_refuses_ends_the_command(run: Commands, topic: str) -> None:
    done = run("pub", topic, stdin=b'1\n2\n"' + b"x" * 5000 + b'"\n')
    assert done.status == 1
    assert done.err.endswith("; 2 messages published before\n"), done.err


def test_topic_that_does_not_exist(run: Commands, topic: str) -> None:
    done = run("pub", f"{topic}.none", "1")
    assert (done.status, done.out) == (1, "")
    assert done.err == f"pubsub pub: topic '{topic}.none' does not exist: --create creates it\n"


def test_create_makes_a_topic_once(run: Commands, topic: str) -> None:
    for seq in (1, 2):
        done = run("pub", "--create", f"{topic}.new", "1", "--json")
        assert [line["seq"] for line in done.lines] == [seq], done.err


def test_expected_seq(run: Commands, topic: str) -> None:
    assert run("pub", topic, "1", "--expect", "1").status == 0
    done = run("pub", topic, "2", "--expect", "1")
    assert done.status == 1
    assert "expected 1, but the seq of the topic is 2" in done.err


def test_ttl(run: Commands, topic: str) -> None:
    assert run("pub", topic, "1", "--ttl", "0.001").status == 0
    assert run("pub", topic, "2", "--ttl", "100").status == 0
    lines = run("sub", topic, "--json", "--last-n", "3", "--count", "2").lines
    assert [line.get("payload", line["type"]) for line in lines] == [0, "gap", 2]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "the following arguments are required: TOPIC"),
        (["orders.*", "1"], "argument TOPIC: the name of a topic: expected"),
        (["t", "hello"], "expected JSON, got 'hello' (--text publishes text as it is)"),
        (["t", "\x1b[2J"], r"expected JSON, got '\x1b[2J'"),
        (["t", "1", "2"], "unrecognized arguments: 2"),
        (["t", "1", "--id", "5"], "argument --id: the id of a message: expected a UUID (8-4-4-4-12 hex"),
        (["t", "1", "--ttl", "0"], "argument --ttl: got '0', expected seconds above 0"),
        (["t", "1", "--expect", "-1"], "argument --expect: got '-1', expected a whole number from 0"),
        (["t", "--id", ID], "--id and --expect are for one message, not for the lines of standard input"),
        (["t", "1", "--url", "localhost"], "argument --url: the URL must look like"),
        (["t", "1", "--token", "swordfish"], "--token: expected a JWT"),
    ],
)
def test_flags_that_are_wrong(flags: list[str], told: str, run: Commands) -> None:
    done = run("pub", *flags)
    assert (done.status, done.out) == (2, "")
    assert told in done.err


def test_server_that_cannot_be_reached(run: Commands) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run("pub", "t", "1", url=url)
    assert (done.status, done.out) == (3, "")
    assert done.err == f"pubsub pub: cannot reach {url}: Connection refused\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_signal(number: signal.Signals, status: int, server: ServerProcess, topic: str) -> None:
    with start("pub", topic, "--json", "--url", server.url, stdin=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == status
        assert process.stderr.read() == ""


def test_reader_of_the_acknowledgements_goes(server: ServerProcess, topic: str) -> None:
    with start("pub", topic, "--json", "--url", server.url, stdin=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("1\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write("2\n")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
