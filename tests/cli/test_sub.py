"""``pubsub sub``: lines for people and programs, resumption, and the ends of a command."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from pubsub.cli.printed import Item
from pubsub.cli.tail import Tail
from tests.cli.running import Commands, Done, create, delete, start
from tests.client.test_terminal import is_inert
from tests.credentials import make_token
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    ForkedServer,
    Json,
    ServerProcess,
    clean_environment,
    eventually,
    free_port,
)


@pytest.fixture
def topic(run: Commands) -> str:
    """Return the name of a topic with the messages 1, 2 and 3."""
    name = f"orders-{uuid.uuid4().hex[:8]}"
    assert run("pub", "--create", name, stdin=b"1\n2\n3\n").status == 0
    return name


def start_sub(server: ServerProcess, *flags: str) -> subprocess.Popen[str]:
    """Start the command; it has subscribed when this returns."""
    process = start("sub", *flags, "--last-n", "1", "--url", server.url)
    assert process.stdout is not None
    assert process.stdout.readline(), process.stderr and process.stderr.read()
    return process


def ended(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, out, err)


# Lines


def test_event_for_people(run: Commands, topic: str) -> None:
    done = run("sub", topic, "--last-n", "2", "--count", "2")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(rf"\[{topic}\] #2 [0-9a-f-]{{36}}: 2\n\[{topic}\] #3 [0-9a-f-]{{36}}: 3\n", done.out)


def test_event_for_programs(run: Commands, topic: str) -> None:
    (line,) = run("sub", topic, "--last-n", "1", "--count", "1", "--json").lines
    assert line.items() >= {"type": "event", "topic": topic, "seq": 3, "payload": 3}.items()
    assert list(line) == ["type", "topic", "seq", "epoch", "id", "payload", "ts"]


def test_topics_and_patterns_with_a_filter(run: Commands, topic: str) -> None:
    for name in ("a", "b"):
        run("pub", "--create", f"{topic}.{name}", stdin=b'{"n":1}\n{"n":2}\n')
    flags = ("--filter", "payload.n > params.least", "--params", '{"least":1}', "--last-n", "5", "--json")
    lines = run("sub", f"{topic}.*", topic, "--count", "2", *flags).lines
    assert {line["topic"]: line["payload"] for line in lines} == {f"{topic}.{name}": {"n": 2} for name in ("a", "b")}


def test_payload_cannot_act_on_a_terminal_and_stays_json(run: Commands, topic: str) -> None:
    value = "\x9b2J\x7f\u202e\x1b\n"
    run("pub", topic, '["\x9b2J\x7f\u202e\\u001b\\n",\n\t1]')
    for flags in ([], ["--json"]):
        done = run("sub", topic, "--last-n", "1", "--count", "1", *flags)
        assert all(map(is_inert, done.out.removesuffix("\n")))
    assert done.lines[0]["payload"] == [value, 1]


def test_name_that_a_pattern_covers_is_left_out(run: Commands, server: ServerProcess, topic: str) -> None:
    run("pub", "--create", f"{topic}.a", "1")
    with start_sub(server, f"{topic}.a", f"{topic}.*", "--count", "2", "--json") as process:
        run("pub", f"{topic}.a", "2")
        assert [line["payload"] for line in ended(process).lines] == [2], "after the first line"


def test_notices(run: Commands, server: ServerProcess, topic: str) -> None:
    with start_sub(server, f"{topic}.>", topic, "--json", "--notices", "--count", "2") as process:
        run("pub", "--create", f"{topic}.new", '"x"')
        lines = ended(process).lines
    assert [line["type"] for line in lines] == ["notice", "event"]
    assert lines[0].items() >= {"kind": "topic_created", "topic": f"{topic}.new"}.items()


# Ends


@pytest.mark.parametrize(("flags", "status"), [(["--count", "4"], 4), ([], 0)], ids=["too few events", "no count"])
def test_timeout(run: Commands, topic: str, flags: list[str], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    end_time_after(3, monkeypatch)
    done = run("sub", topic, "--last-n", "3", "--timeout", str(PATIENCE), "--json", *flags)
    assert (done.status, len(done.lines), done.err) == (status, 3, "")


def end_time_after(events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of a command be over as soon as it has so many events, however long that takes."""
    limits: list[asyncio.Timeout] = []
    taken: list[Item] = []
    limit, take = asyncio.timeout, Tail._take

    def limit_time(seconds: float | None) -> asyncio.Timeout:
        limits.append(limit(seconds))
        return limits[-1]

    def take_and_end(tail: Tail, item: Item) -> None:
        take(tail, item)
        taken.append(item)
        if len(taken) == events:
            limits[0].reschedule(0)

    monkeypatch.setattr(asyncio, "timeout", limit_time)
    monkeypatch.setattr(Tail, "_take", take_and_end)


def test_topic_that_does_not_exist(run: Commands, topic: str) -> None:
    done = run("sub", topic, f"{topic}.none")
    assert (done.status, done.out, done.err) == (1, "", f"pubsub sub: Topic '{topic}.none' does not exist\n")


def test_filter_that_is_wrong(run: Commands, topic: str) -> None:
    done = run("sub", topic, "--filter", "payload.")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("pubsub sub: filter: ")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "the following arguments are required: TOPIC"),
        (["orders.*x"], "argument TOPIC: the name of a topic, or a pattern: expected"),
        (["t", "--last-n", "-1"], "argument --last-n: got '-1', expected a whole number from 0"),
        (["t", "--count", "0"], "argument --count: got '0', expected a whole number from 1"),
        (["t", "--timeout", "0"], "argument --timeout: got '0', expected seconds above 0"),
        (["t", "--params", "[]"], "argument --params: got '[]', expected a JSON object"),
        (["t", "--client", "bob", "--token", make_token()], "--client: got 'bob', but the token is that of 'alice'"),
        (["t", "--resume", "/proc/nowhere"], "pubsub sub: /proc/nowhere: No such file or directory"),
        (["t", "--resume", "/"], "pubsub sub: /: Is a directory"),
        (["t", "--resume", __file__], "pubsub sub: " + __file__ + ": expected positions as in"),
    ],
)
def test_flags_that_are_wrong(flags: list[str], told: str, run: Commands, topic: str) -> None:
    done = run("sub", *(topic if flag == "t" else flag for flag in flags))
    assert (done.status, done.out) == (2, "")
    assert told in done.err


def test_server_that_cannot_be_reached(run: Commands) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run("sub", "t", url=url)
    assert (done.status, done.out, done.err) == (3, "", f"pubsub sub: cannot reach {url}: Connection refused\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(number: signal.Signals, server: ServerProcess, topic: str) -> None:
    with start_sub(server, topic) as process:
        process.send_signal(number)
        assert ended(process) == Done(128 + number, "", "")


def test_reader_that_goes_ends_the_command(server: ServerProcess, topic: str) -> None:
    """As with ``| head -1``: also if no further event comes."""
    with start_sub(server, topic) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


def test_output_that_is_full(server: ServerProcess, topic: str) -> None:
    with (
        open("/dev/full", "w") as full,
        start("sub", topic, "--last-n", "1", "--url", server.url, stdout=full) as process,
    ):
        done = ended(process)
    assert (done.status, done.err) == (2, "pubsub sub: the output: No space left on device\n")


def test_closed_standard_streams(server: ServerProcess, topic: str) -> None:
    command = f'exec "$0" -m pubsub sub {topic} --last-n 1 --count 1 --url {server.url} <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=REPOSITORY, env=clean_environment(), timeout=30)
    assert done.returncode == 0


# Resumption


def positions(file: Path) -> Json:
    read: Json = json.loads(file.read_text())
    return read


def test_resume_goes_on_where_the_output_ended(run: Commands, topic: str, tmp_path: Path) -> None:
    flags = (topic, "--json", "--last-n", "2", "--resume", str(tmp_path / "positions"))
    assert [line["seq"] for line in run("sub", *flags, "--count", "1").lines] == [2]
    assert positions(tmp_path / "positions")[topic]["seq"] == 2
    run("pub", topic, stdin=b"4\n5\n")
    assert [line["seq"] for line in run("sub", *flags, "--count", "3").lines] == [3, 4, 5]
    assert run("sub", *flags, "--count", "1", "--timeout", "0.2").status == 4


def test_count_over_several_topics_leaves_the_others_where_they_are(run: Commands, topic: str, tmp_path: Path) -> None:
    names = [topic, *(f"{topic}.{number}" for number in range(4))]
    for name in names[1:]:
        run("pub", "--create", name, "1")
    flags = (*names, "--json", "--last-n", "1", "--resume", str(tmp_path / "positions"), "--count", "1")
    assert sorted(run("sub", *flags).lines[0]["topic"] for _ in names) == sorted(names)


def test_position_is_saved_before_the_first_event(run: Commands, server: ServerProcess, tmp_path: Path) -> None:
    topic, file = f"new-{uuid.uuid4().hex[:8]}", tmp_path / "positions"
    run("pub", "--create", topic, stdin=b"")
    with start("sub", topic, "--resume", str(file), "--url", server.url) as process:
        asyncio.run(eventually(file.exists))
        process.terminate()
    assert positions(file)[topic]["seq"] == 0
    run("pub", topic, "1")
    assert len(run("sub", topic, "--resume", str(file), "--count", "1", "--json").lines) == 1


def test_command_that_is_killed_goes_on_where_it_was(
    run: Commands, server: ServerProcess, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "positions"
    flags = ("--json", "--resume", str(file))
    with start_sub(server, topic, *flags) as process:
        process.kill()
    run("pub", topic, stdin=b"4\n5\n")
    lines = run("sub", topic, *flags, "--count", "2").lines
    assert [line["seq"] for line in lines] in ([4, 5], [3, 4])  # the position may not have been saved yet


def test_server_that_is_killed_costs_a_durable_topic_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with ForkedServer("--data-dir", str(tmp_path)) as first:
        create(first, "orders", durable=True)
        run = Commands(first, capfd)
        run("pub", "orders", "1")
        with start_sub(first, "orders", "--json", "--count", "3") as process:
            run("pub", "orders", "2")
            first.stop(signal.SIGKILL)
            assert process.stderr is not None
            assert process.stderr.readline().startswith("pubsub sub: the connection was lost")
            with ForkedServer("--data-dir", str(tmp_path), "--port", str(first.port)):
                run("pub", "orders", "3")
                done = ended(process)
    assert (done.status, [line["payload"] for line in done.lines]) == (0, [2, 3])
    assert done.err.endswith("pubsub sub: connected again\n")


def test_topic_that_is_deleted_is_remarked_and_awaited(server: ServerProcess, run: Commands, topic: str) -> None:
    with start_sub(server, topic, "--json", "--count", "2") as process:
        delete(server, topic)
        run("pub", "--create", topic, "4")
        done = ended(process)
    assert (done.status, done.err) == (5, f"pubsub sub: topic deleted: {topic}\n")
    assert [line.get("reason") or line["payload"] for line in done.lines] == ["created_again", 4]


def test_gap_has_a_line_and_a_status(run: Commands, server: ServerProcess, topic: str, tmp_path: Path) -> None:
    file = tmp_path / "positions"
    epoch = run("sub", topic, "--last-n", "1", "--count", "1", "--json").lines[0]["epoch"]
    file.write_text(json.dumps({topic: {"epoch": epoch, "seq": 0}}))
    run("pub", topic, stdin=b"".join(b"%d\n" % number for number in range(4, 251)))
    flags = (topic, "--resume", str(file), "--count", "100")
    done = run("sub", *flags, "--json")
    assert done.status == 5
    assert done.lines[0] == {
        "type": "gap", "topic": topic, "epoch": epoch, "from_seq": 1, "to_seq": 150, "count": 150, "reason": "lost"
    }  # fmt: skip
    assert [line["seq"] for line in done.lines[1:]] == list(range(151, 251))
    file.write_text(json.dumps({topic: {"epoch": epoch, "seq": 149}}))
    done = run("sub", *flags)
    assert done.out.splitlines()[0] == f"gap: 1 message of {topic} (#150 to #150): no longer kept"
    file.write_text(json.dumps({topic: {"epoch": "another", "seq": 149}}))
    done = run("sub", *flags)
    assert done.out.splitlines()[0] == f"gap: {topic} was deleted and created again; messages may be missing"
