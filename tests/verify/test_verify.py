"""``pubsub verify``: against a good server, with each kind of rights, against hostile servers, and when it is ended."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pubsub.verify.checks import CHECKS, FURTHER_CHECKS, IDLE_CHECKS
from tests.cli.running import Commands, Done, start
from tests.credentials import API_KEYS, SECRET, make_token
from tests.harness import PATIENCE, ForkedServer, ServerProcess, free_port

NAMES = [each.name for each in (*CHECKS, *FURTHER_CHECKS, *IDLE_CHECKS)]
OVER_REST = {"rest", "gzip", "body", "stream", "last-event-id", "heartbeat-sse"}
OVER_BOTH = {"messages", "large", "limits", "compression", "resume", "leave", "order", "gaps"}
WITH_UPGRADE = {"upgrade", "origin", "heartbeat"}
RIGHTS = {"subscribe": ["verify.>"], "publish": ["verify.>"], "admin": True}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer("--ping-period-sec", "0.2", "--compression", "on") as process:
        yield process


@pytest.fixture(scope="module")
def closed_server() -> Iterator[ServerProcess]:
    """A server with keys and tokens."""
    with ForkedServer("--ping-period-sec", "0.2", environment={"JWT_SECRET": SECRET, "API_KEYS": API_KEYS}) as process:
        yield process


@pytest.fixture
def run(server: ServerProcess, capfd: pytest.CaptureFixture[str]) -> Commands:
    return Commands(server, capfd)


def states(done: Done) -> dict[str, str]:
    """Return the states of all checks in the JSON, by their names."""
    (line,) = done.lines
    return {each["name"]: each["state"] for each in line["checks"]}


def details(done: Done) -> dict[str, str]:
    (line,) = done.lines
    return {each["name"]: each["detail"] for each in line["checks"]}


def topics_of(server: ServerProcess, **fields: str) -> list[str]:
    request = urllib.request.Request(f"{server.url}/topics", headers=fields)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return [each["name"] for each in json.load(answer)["topics"]]


def test_good_server_for_programs(run: Commands, server: ServerProcess) -> None:
    done = run("verify", "--json", "--size", "5000")
    assert (done.status, done.err) == (0, "")
    (line,) = done.lines
    assert (line["ok"], line["url"], line["left_behind"]) == (True, server.url, [])
    assert states(done) == dict.fromkeys(NAMES, "ok"), details(done)
    assert topics_of(server) == []


def test_good_server_for_people(run: Commands, server: ServerProcess) -> None:
    done = run("verify", server.url, "--quick", "--size", "5000")
    *rows, last = done.out.splitlines()
    assert [row.split()[1] for row in rows] == NAMES
    assert rows[0].startswith("ok       reach          GET /health: the server answered in ")
    assert rows[-1] == "skipped  heartbeat-sse  an idle stream: left out by --quick"
    assert last.startswith(f"{server.url}: {len(NAMES) - 2} ok, 0 failed, 2 skipped, in ")
    assert (done.status, done.err) == (0, "")


# Rights


@pytest.mark.parametrize(
    ("flags", "skipped"),
    [
        ([], {"credentials", "topics", *WITH_UPGRADE, *OVER_REST, *OVER_BOTH}),
        (["--api-key", "board-key"], {"topics", *WITH_UPGRADE, *OVER_REST, *OVER_BOTH}),
        (["--api-key", "ops-key"], WITH_UPGRADE | OVER_BOTH),
        (["--token", make_token(subscribe=["verify.>"], publish=["verify.>"])], {"topics", *OVER_REST, *OVER_BOTH}),
        (["--token", make_token("alice", **RIGHTS)], {"compression"}),
    ],
    ids=["none", "read key", "admin key", "token", "admin token"],
)
def test_rights(flags: list[str], skipped: set[str], run: Commands, closed_server: ServerProcess) -> None:
    done = run("verify", "--json", "--size", "5000", *flags, url=closed_server.url)
    found = states(done)
    assert {name for name, state in found.items() if state == "skipped"} == skipped, details(done)
    assert (set(found.values()) <= {"ok", "skipped"}, done.status) == (True, 0), details(done)
    assert topics_of(closed_server, **{"X-API-Key": "ops-key"}) == []


def test_missing_rights_are_named(run: Commands, closed_server: ServerProcess) -> None:
    found = details(run("verify", "--json", "--quick", "--api-key", "shop-key", url=closed_server.url))
    assert "give an API key of the role admin" in found["topics"]
    assert "--token" in found["upgrade"]
    assert found["order"] == "it needs topics"


def test_wrong_credentials(run: Commands, closed_server: ServerProcess) -> None:
    done = run("verify", "--json", "--quick", "--api-key", "sesame", url=closed_server.url)
    assert (done.status, states(done)["credentials"]) == (1, "failed")
    assert "API key: unknown" in details(done)["credentials"]
    assert "sesame" not in done.out


def test_limits_of_the_server_are_no_failure(run: Commands) -> None:
    with ForkedServer("--rate-limit-msgs-per-sec", "50", "--max-message-bytes", "4000") as server:
        done = run("verify", "--json", "--quick", url=server.url)
    assert (done.status, "failed" in states(done).values()) == (0, False), details(done)


# Servers that are none


Answer = Callable[[bytes], bytes]


@contextlib.contextmanager
def listening(answer: Answer) -> Iterator[str]:
    """Answer the head of each request; an empty answer is a connection that stays open and silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connections.append(connection)
                    if sent := answer(connection.recv(65_536)):
                        connection.sendall(sent)
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
        for each in connections:
            each.close()


def page(text: str, status: str = "200 OK", *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(text)}", *fields, "", text]).encode()


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (b"", "no answer within 1 s"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "expected an answer in HTTP/1.1, got b'SSH-2.0-OpenSSH_9.2p1"),
        (b"x" * 200_000, "expected HTTP, got 65,536 bytes without the end of a line or head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "got 'many'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "expected the size of a chunk"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "the answer is damaged"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}", "the connection was closed after 2 bytes of 30"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed without an answer"),
        (page("<h1>It works!</h1>"), "expected the health of a server, got 200, not from the server: '<h1>It works"),
        (page("[" * 10_000), "expected the health of a server"),
        (page("", "502 Bad Gateway"), "got 502, not from the server"),
        (page("", "301 Moved", "Location: https://there/"), "redirected to 'https://there/'"),
        (page('{"uptime_sec":1,"status":"draining"}', "503 No"), "the server says draining"),
        (page("\x1b[2J", "404 Not Found"), "not from the server"),
    ],
    ids=["silence", "ssh", "long", "length", "chunk", "gzip", "half", "interim", "page", "deep", "502", "301", "drain",
         "terminal"],
)  # fmt: skip
def test_server_of_another_kind(answer: bytes, detail: str, run: Commands) -> None:
    with listening(lambda request: answer) as url:
        done = run("verify", "--json", "--seconds", "1", url=url)
    assert (done.status, done.err) == (1, "")
    assert detail in details(done)["reach"]
    assert states(done) == {"reach": "failed"} | dict.fromkeys(NAMES[1:], "skipped")


@pytest.mark.parametrize("sent", [b"", b"\x00" * 200, page("{}"), page('{"error":"no"}', "400 No")])
def test_server_that_is_healthy_and_nothing_else(sent: bytes, run: Commands) -> None:
    """Every check ends in time, whatever comes."""
    health = page('{"uptime_sec":1}')
    with listening(lambda request: health if b"GET /health" in request else sent) as url:
        done = run("verify", "--json", "--seconds", "1", url=url)
    assert done.status == 1
    found = states(done)
    assert (found["reach"], "ok" in list(found.values())[3:]) == ("ok", False), details(done)


def test_hostile_websocket(run: Commands) -> None:
    """A handshake of another request."""

    def answer(request: bytes) -> bytes:
        if b"GET /ws" not in request:
            return page('{"uptime_sec":1}')
        return b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n\xff\xff"

    with listening(answer) as url:
        assert "Sec-WebSocket-Accept" in details(run("verify", "--json", "--quick", url=url))["upgrade"]


def test_nobody_listens(run: Commands) -> None:
    done = run("verify", "--json", url=f"http://127.0.0.1:{free_port()}")
    assert (done.status, details(done)["reach"]) == (1, "cannot reach it: Connection refused")


# Its end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing_behind(number: signal.Signals) -> None:
    with ForkedServer() as server, start("verify", server.url, "--seconds", "60") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        rows = iter(process.stdout.readline, "")
        assert any(" gaps " in row for row in rows)  # the topic of the idle stream exists
        assert topics_of(server) != []
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
        assert process.stderr.read() == ""
        assert topics_of(server) == []


def test_reader_that_leaves(server: ServerProcess) -> None:
    """As ``head -1`` does: the command ends, and deletes its topics."""
    with start("verify", server.url, "--seconds", "60") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""
    assert topics_of(server) == []


def test_topics_that_cannot_be_deleted_are_named(run: Commands) -> None:
    def answer(request: bytes) -> bytes:
        if request.startswith(b"POST /topics "):
            return page("{}", "201 Created")
        return b"" if request.startswith(b"DELETE") else page('{"uptime_sec":1}')

    with pytest.MonkeyPatch.context() as patch, listening(answer) as url:
        patch.setattr("pubsub.verify.deployment.CLEANING_SEC", 0.2)
        done = run("verify", "--json", "--quick", "--seconds", "1", url=url)
    assert done.err.startswith("pubsub verify: these topics could not be deleted: verify.")
    assert done.lines[0]["left_behind"]


def invalid(done: Done) -> Any:
    return done.status, done.out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--seconds", "0"], "expected seconds above 0"),
        (["--size", "0"], "expected a whole number from 1"),
        (["ftp://there"], "the URL must look like"),
        (["--token", "abc"], "expected a JWT"),
    ],
)
def test_wrong_flags(flags: list[str], told: str, run: Commands) -> None:
    done = run("verify", *flags)
    assert invalid(done) == (2, "")
    assert told in done.err
