"""The interactive client: its commands and lines as plain functions, its link with a scripted server, whole sessions
with the real one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsub.client.address import server_url
from pubsub.client.close_codes import BY_CLOSE_CODE
from pubsub.client.replies import Ack, Event, Info, Reply, Unknown, decode
from pubsub.client.requests import Ping, Position
from pubsub.console import commands
from pubsub.console.commands import Command, CommandError, parse
from pubsub.console.lines import Kind, Line, describe, describe_answer, describe_topics, paint
from pubsub.console.link import Link, State
from pubsub.console.pauses import LONGEST_PAUSE_SEC, pauses
from pubsub.console.subscriptions import Subscriptions
from tests.client.test_terminal import is_inert
from tests.harness import (
    PATIENCE,
    REPOSITORY,
    ForkedServer,
    Json,
    ServerProcess,
    clean_environment,
    eventually,
    free_port,
    on_one_loop,
)

ID = "550e8400-e29b-41d4-a716-446655440000"

# --- Commands


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("sub orders", commands.Subscribe("orders", 0)),
        ("  sub\torders  5 \n", commands.Subscribe("orders", 5)),
        ("unsub orders", commands.Unsubscribe("orders")),
        ("ping", commands.Ping()),
        ("topics", commands.ListTopics()),
        ("create orders.eu", commands.CreateTopic("orders.eu")),
        (
            "create t durable history=5 ttl_sec=0.5 overflow=latest",
            commands.CreateTopic("t", (("durable", True), ("history", 5), ("ttl_sec", 0.5), ("overflow", "latest"))),
        ),
        ("delete orders", commands.DeleteTopic("orders")),
        ("history orders", commands.ReadHistory("orders", 10)),
        ("history orders 3", commands.ReadHistory("orders", 3)),
        ("help", commands.Help(tuple(commands.SYNTAX))),
        ("help pub", commands.Help(("pub",))),
        ("quit", commands.Quit()),
        ("exit", commands.Quit()),
        ("", commands.Nothing()),
        (" \t ", commands.Nothing()),
    ],
)
def test_commands(line: str, command: Command) -> None:
    assert parse(line) == command


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        ("hello", '"hello"'),
        ("hello  big   world ", '"hello  big   world"'),
        ('{"test":"data"}', '{"test":"data"}'),
        ('{"b": 1.50, "a": 1e400, "a": 2}', '{"b": 1.50, "a": 1e400, "a": 2}'),
        ("[1, 2]", "[1, 2]"),
        ('"quoted"', '"quoted"'),
        ('"quoted" and more', json.dumps('"quoted" and more')),
        ("-12.5e3", "-12.5e3"),
        ("9" * 5000, "9" * 5000),
        ("true", "true"),
        ("null", "null"),
        ("nul", '"nul"'),
        ("NaN", '"NaN"'),
        ("01", '"01"'),
        ("grüße", json.dumps("grüße")),
        ("\x1b[31m", '"\\u001b[31m"'),
    ],
)
def test_payload_is_json_or_a_string(text: str, payload: str) -> None:
    assert parse(f"pub orders {text}") == commands.Publish("orders", payload)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("subb orders", "unknown command 'subb'; did you mean 'sub'?"),
        ("SUBSCRIBE orders", "unknown command 'SUBSCRIBE'; did you mean 'sub'?"),
        ("publish orders x", "unknown command 'publish'; did you mean 'pub'?"),
        ("xyzzy", "unknown command 'xyzzy'; 'help' lists the commands"),
        ("help subb", "unknown command 'subb'; did you mean 'sub'?"),
        ("sub", "TOPIC is missing; usage: sub TOPIC [LAST_N]"),
        ("pub orders", "TEXT is missing; usage: pub TOPIC TEXT"),
        ("sub orders five", "LAST_N must be a whole number from 0 to 999999999, not 'five'"),
        ("sub orders -1", "LAST_N must be a whole number from 0 to 999999999, not '-1'"),
        ("history orders 1 2", "N must be a whole number from 0 to 999999999, not '1 2'"),
        ("ping me now", "ping takes no arguments, but got 'me now'"),
        ('pub orders {"a" 1}', "Expecting ':' delimiter at character 6 ('1}')"),
        ("pub orders [1,", "Expecting value at character 4 ('')"),
        ("pub orders [NaN]", "NaN is no JSON value"),
        ("pub orders " + "[" * 100_000, "nested too deeply"),
        ("pub orders \udc80", "expected UTF-8, but character 12 of the line is not"),
    ],
)
def test_bad_commands_explain_themselves(line: str, told: str) -> None:
    with pytest.raises(CommandError) as failure:
        parse(line)
    assert told in str(failure.value)


@settings(deadline=None)
@given(st.text())
def test_any_line_is_a_command_or_an_explanation(line: str) -> None:
    with contextlib.suppress(CommandError):
        parse(line)


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda some: st.lists(some) | st.dictionaries(st.text(), some))
)
def test_any_json_is_published_as_it_is_typed(payload: Any) -> None:
    text = json.dumps(payload)
    assert parse(f"pub orders {text}") == commands.Publish("orders", text)


# --- Lines


def described(frame: str) -> list[str]:
    return [line.text for line in describe(decode(frame))]


EVENT = f'{{"type":"event","topic":"orders","message":{{"id":"{ID}","payload":{{"n": 1.50}}}},"seq":17,"ts":"x"}}'


@pytest.mark.parametrize(
    ("frame", "lines"),
    [
        (EVENT, [f'[orders] #17 {ID}: {{"n":1.50}}']),
        (
            '{"type":"error","error":{"code":"TOPIC_NOT_FOUND","message":"Topic \'x\' does not exist"},"ts":"x"}',
            ["error TOPIC_NOT_FOUND: Topic 'x' does not exist"],
        ),
        (
            '{"type":"info","topic":"orders","msg":"dropped","count":7,"from_seq":101,"to_seq":107}',
            ["dropped: 7 messages of orders (#101 to #107)"],
        ),
        ('{"type":"info","msg":"ping"}', []),
        ('{"type":"info","topic":"orders","msg":"topic_deleted"}', ["topic deleted: orders"]),
        (
            '{"type":"info","msg":"draining","reconnect_after_ms":1830}',
            ["draining: the server shuts down; reconnect after 1.8 s"],
        ),
        ('{"type":"info","msg":"novelty","topic":"orders"}', ["info: novelty orders"]),
        (
            f'{{"type":"history","topic":"orders","epoch":"e","messages":[{EVENT}],"complete":false}}',
            [
                "ok: 1 message in the history of orders; older ones are no longer kept",
                f'[orders] #17 {ID}: {{"n":1.50}}',
            ],
        ),
        ('{"type":"news","x":[1]}', ['unknown frame: {"type":"news","x":[1]}']),
        ('{"type":"event","topic":7}', ['unknown frame: {"type":"event","topic":7}']),
        ("no JSON", ["unknown frame: no JSON"]),
        ("[" * 100_000, ["unknown frame: " + "[" * 100_000]),
        ('{"type":"pong","ts":"x"}', ["ok: pong"]),
        ('{"type":"ack","topic":"orders"}', ["ok: orders"]),
    ],
)
def test_frames_as_lines(frame: str, lines: list[str]) -> None:
    assert described(frame) == lines


@settings(deadline=None)
@given(st.text())
def test_any_frame_has_lines(frame: str) -> None:
    assert all(isinstance(line, Line) for line in describe(decode(frame)))


@pytest.mark.parametrize(
    ("command", "reply", "text"),
    [
        (commands.Subscribe("orders", 0), Ack(topic="orders"), "ok: subscribed to orders"),
        (commands.Unsubscribe("orders"), Ack(topic="orders"), "ok: unsubscribed from orders"),
        (commands.Publish("orders", "1"), Ack(topic="orders", seq=3), "ok: published to orders as #3"),
        (commands.Publish("orders", "1"), Ack(topic="orders"), "ok: published to orders"),
        (commands.Ping(), decode('{"type":"pong","ts":"x"}'), "ok: pong after 1.5 ms"),
    ],
)
def test_answers_as_lines(command: Command, reply: Reply, text: str) -> None:
    assert describe_answer(command, reply, seconds=0.0015) == [Line(Kind.OK, text)]


def test_topics_as_a_line() -> None:
    assert describe_topics({"orders": 3, "b": 1}).text == "topics: orders (3 subscribers), b (1 subscriber)"
    assert describe_topics({}).text == "topics: none"


def test_a_painted_line_has_the_colour_of_its_kind_and_no_other() -> None:
    assert paint(Line(Kind.ERROR, "\x1b[0m")) == "\x1b[31m\\u001b[0m\x1b[0m"


# --- Rules of the link


def test_pauses_grow_to_their_limit() -> None:
    tops = [0.5, 1, 2, 4, 8, LONGEST_PAUSE_SEC, LONGEST_PAUSE_SEC]
    assert all(top / 2 <= pause <= top for top, pause in zip(tops, itertools.islice(pauses(), 7), strict=True))


EVENT_7 = decode(f'{{"type":"event","topic":"t","message":{{"id":"{ID}","payload":1}},"seq":7,"ts":"x"}}')


@pytest.mark.parametrize(
    ("seen", "ack", "told"),
    [
        (EVENT_7, Ack(epoch="e", seq=7, recovered=True), "no message is missing"),
        (EVENT_7, Ack(epoch="e", seq=9, recovered=True), "no message is missing"),
        (EVENT_7, Ack(epoch="e", seq=9, recovered=False), "some messages are no longer kept"),
        (
            EVENT_7,
            Ack(epoch="other", seq=9, recovered=False),
            "it was created again; its messages follow",
        ),
        (EVENT_7, Ack(epoch="e", seq=6, recovered=False), "it was created again; its messages follow"),
        (EVENT_7, Ack(), "messages may be missing"),
    ],
)
def test_account_of_what_is_missing(seen: Reply, ack: Ack, told: str) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin("t", Ack(epoch="e", seq=5))
    subscriptions.note(seen)
    subscriptions.disconnect()
    assert subscriptions.missing == {"t"}
    assert subscriptions.describe_resume("t", ack) == told


@pytest.mark.parametrize(
    ("told", "ack", "position"),
    [
        ([EVENT_7], Ack(epoch="e", seq=9, recovered=True), ("e", 7)),  # 8 and 9 follow
        ([Info(msg="dropped", topic="t", to_seq=8)], Ack(epoch="e", seq=9, recovered=False), ("e", 8)),
        ([EVENT_7], Ack(epoch="other", seq=9, recovered=False), ("other", 0)),
        ([EVENT_7], Ack(epoch="e", seq=9), ("e", 9)),
    ],
)
def test_a_position_moves_with_what_comes(told: list[Reply], ack: Ack, position: tuple[str, int]) -> None:
    subscriptions = Subscriptions()
    subscriptions.begin("t", Ack(epoch="e", seq=5))
    for reply in told:
        subscriptions.note(reply)
    subscriptions.begin("t", ack)
    assert subscriptions.position("t") == Position(*position)


def test_a_deleted_topic_is_no_longer_subscribed_to() -> None:
    subscriptions = Subscriptions()
    subscriptions.begin("t", Ack())
    subscriptions.note(Info(msg="topic_deleted", topic="t"))
    subscriptions.disconnect()
    assert not subscriptions.missing


# --- The link, with a scripted server

Script = Callable[[web.WebSocketResponse], Awaitable[None]]


class Talk:
    """A link in this loop, with all its received messages and remarks."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.received: list[Reply] = []
        self.remarks: list[str] = []
        self.answers: list[Reply] = []
        self.link = Link(http, server_url(url), "tester", received=self.received.append, remark=self.remarks.append)

    async def remarked(self, pattern: str) -> None:
        await eventually(lambda: any(re.search(pattern, remark) for remark in self.remarks))


@contextlib.asynccontextmanager
async def talk(*scripts: Script) -> AsyncIterator[Talk]:
    """Open a link to a server whose connections follow ``scripts``, one after the other."""
    upcoming = iter(scripts)

    async def serve(request: web.Request) -> web.WebSocketResponse:
        assert request.query["client_id"] == "tester"
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await next(upcoming)(websocket)
        return websocket

    app = web.Application()
    app.router.add_get("/ws", serve)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        yield Talk(http, str(server.make_url("/")))


async def answer(websocket: web.WebSocketResponse, **reply: Any) -> Json:
    """Answer the next request, and return it."""
    request: Json = await websocket.receive_json(timeout=PATIENCE)
    await websocket.send_json({"request_id": request["request_id"], "ts": "x", **reply})
    return request


def closing(code: int) -> Script:
    async def script(websocket: web.WebSocketResponse) -> None:
        await websocket.close(code=code, message=b"reason")

    return script


@pytest.mark.parametrize("code", sorted(code for code, known in BY_CLOSE_CODE.items() if not known.reconnects))
@on_one_loop
async def test_link_stays_away(code: int) -> None:
    async with talk(closing(code)) as told:
        disconnection = await told.link.keep_open(persistent=True)
    assert str(code) in disconnection.reason
    assert told.link.state is State.CLOSED


@pytest.mark.parametrize("code", [1001, 1011, 1013])
async def test_link_comes_back(code: int) -> None:
    async with talk(closing(code), closing(4403)) as told:
        await told.link.keep_open(persistent=False)
    assert told.remarks[0].endswith(f"({code}: reason); trying again")
    assert told.remarks[1].startswith("connected again")


async def test_link_waits_as_long_as_a_draining_server_asks() -> None:
    ended_at = 0.0

    async def drain(websocket: web.WebSocketResponse) -> None:
        nonlocal ended_at
        ended_at = time.monotonic()
        await websocket.send_json({"type": "info", "msg": "draining", "reconnect_after_ms": 1200, "ts": "x"})
        await websocket.close(code=1001)

    async with talk(drain, closing(4403)) as told:
        await told.link.keep_open(persistent=False)
    assert time.monotonic() - ended_at >= 1.2  # longer than the longest first pause
    assert [type(reply) for reply in told.received] == [Info]


async def test_link_subscribes_again() -> None:
    asked: list[Json] = []

    async def first(websocket: web.WebSocketResponse) -> None:
        asked.append(await answer(websocket, type="ack", topic="t", epoch="e", seq=4))
        await websocket.close(code=1011)

    async def second(websocket: web.WebSocketResponse) -> None:
        error = {"code": "TOPIC_NOT_FOUND", "message": "Topic 't' does not exist"}
        await answer(websocket, type="error", error=error)
        asked.append(await answer(websocket, type="ack", topic="t", epoch="e", seq=6, recovered=True))
        await websocket.close(code=4403)

    async with talk(first, second) as told:
        living = asyncio.create_task(told.link.keep_open(persistent=False))
        await told.link.wait_open()
        await told.link.subscribe("t", 5, told.answers.append)
        await living
    assert [(request["topic"], request["client_id"]) for request in asked] == [("t", "tester")] * 2
    assert asked[0]["last_n"] == 5
    assert asked[1]["resume"] == {"t": {"epoch": "e", "seq": 4}}
    assert told.remarks[2] == "Topic 't' does not exist any more; subscribing again as soon as it does"
    assert told.remarks[3] == "subscribed again to t; no message is missing"


async def test_a_topic_that_was_unsubscribed_from_meanwhile_is_not_resumed() -> None:
    asked: list[Json] = []
    resuming = asyncio.Event()

    async def first(websocket: web.WebSocketResponse) -> None:
        for topic in ("a", "b"):
            await answer(websocket, type="ack", topic=topic, epoch="e", seq=4)
        await websocket.close(code=1011)

    async def second(websocket: web.WebSocketResponse) -> None:
        resume = await websocket.receive_json(timeout=PATIENCE)
        resuming.set()
        asked.append(await answer(websocket, type="ack", topic="b"))
        await websocket.send_json({"type": "ack", "topic": "a", "request_id": resume["request_id"], "epoch": "e"})
        for _ in range(2):  # pings: by the second one a resume would have come
            asked.append(await answer(websocket, type="pong"))
        await websocket.close(code=4403)

    async with talk(first, second) as told:
        living = asyncio.create_task(told.link.keep_open(persistent=False))
        await told.link.wait_open()
        for topic in ("a", "b"):
            await told.link.subscribe(topic, 0, told.answers.append)
        await resuming.wait()
        await told.link.unsubscribe("b", told.answers.append)
        await told.remarked("subscribed again to a")
        for _ in range(2):
            await told.link.ask(Ping(), told.answers.append)
        await living
    assert [request["type"] for request in asked] == ["unsubscribe", "ping", "ping"]


async def test_answers_are_told_before_what_follows_them() -> None:
    """They come in one read: the screen must show the ack before the events."""

    async def script(websocket: web.WebSocketResponse) -> None:
        await answer(websocket, type="ack", topic="t")
        for _ in range(3):
            await websocket.send_str(EVENT)
        await websocket.close(code=4403)

    async with talk(script) as told:
        living = asyncio.create_task(told.link.keep_open(persistent=False))
        await told.link.wait_open()
        await told.link.subscribe("t", 0, told.received.append)
        await living
    assert [type(reply) for reply in told.received] == [Ack, Event, Event, Event]


async def test_link_takes_frames_that_it_does_not_know() -> None:
    async def script(websocket: web.WebSocketResponse) -> None:
        await websocket.send_str("[]")
        await websocket.send_bytes(b"\x1b")
        await websocket.send_str('{"type":"pong","request_id":"nobody asked","ts":"x"}')
        await websocket.close(code=4403)

    async with talk(script) as told:
        await told.link.keep_open(persistent=False)
    assert told.received[:2] == [Unknown("[]"), Unknown(repr(b"\x1b"))]
    assert len(told.received) == 3


async def test_a_lost_connection_fails_the_request_under_way() -> None:
    async def script(websocket: web.WebSocketResponse) -> None:
        await websocket.receive()
        await websocket.close(code=4403)

    async with talk(script) as told:
        living = asyncio.create_task(told.link.keep_open(persistent=False))
        await told.link.wait_open()
        with pytest.raises(Exception, match="no answer came: an operator disconnected this client"):
            await told.link.ask(Ping(), told.answers.append)
        with pytest.raises(Exception, match="not connected: an operator disconnected this client"):
            await told.link.ask(Ping(), told.answers.append)
        await living


# --- Whole sessions


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ForkedServer() as process:
        yield process


@pytest.fixture
def topic() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}"


def client_command(url: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "pubsub", "client", "--url", url]


def client_environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(REPOSITORY)} | clean_environment() | more


def run_script(url: str, script: str | bytes) -> subprocess.CompletedProcess[str]:
    """Run a piped session to the end of its input."""
    done = subprocess.run(
        client_command(url),
        input=script.encode() if isinstance(script, str) else script,
        capture_output=True,
        timeout=3 * PATIENCE,
        env=client_environment(),
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def start_script(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        client_command(url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=client_environment(),
    )


def without_ids(text: str) -> list[str]:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text).splitlines()


def test_piped_session(server: ServerProcess, topic: str) -> None:
    script = f'create {topic}\nsub {topic}\npub {topic} hello\npub {topic} {{"test":"data"}}\nhistory {topic} 1\n'
    done = run_script(server.url, f"{script}\nping\ntopics\nunsub {topic}\ndelete {topic}\nquit\nunsub never-reached\n")
    assert (done.returncode, done.stderr) == (0, "")
    lines = without_ids(done.stdout)
    assert [line for line in lines if line.startswith("[")] == [
        f'[{topic}] #1 ID: "hello"',
        f'[{topic}] #2 ID: {{"test":"data"}}',
        f'[{topic}] #2 ID: {{"test":"data"}}',
    ]
    answers = [line for line in lines if not line.startswith("[")]
    assert re.fullmatch(r"ok: pong after [0-9.]+ ms", answers.pop(5))
    assert f"{topic} (1 subscriber)" in answers.pop(5)
    assert answers == [
        f"ok: created {topic}",
        f"ok: subscribed to {topic}",
        f"ok: published to {topic} as #1",
        f"ok: published to {topic} as #2",
        f"ok: 1 message in the history of {topic}",
        f"ok: unsubscribed from {topic}",
        f"ok: deleted {topic}",
    ]


def test_everything_sent_before_the_end_of_input_is_shown(server: ServerProcess, topic: str) -> None:
    published = "".join(f"pub {topic} {number}\n" for number in range(50))
    done = run_script(server.url, f"create {topic}\n{published}sub {topic} 50")
    assert without_ids(done.stdout)[-50:] == [f"[{topic}] #{number + 1} ID: {number}" for number in range(50)]


def test_a_failed_command_fails_the_script_but_does_not_end_it(server: ServerProcess, topic: str) -> None:
    done = run_script(server.url, f"sub {topic}\nsubb\ndelete {topic}\npub {topic} [\ncreate {topic}\ncreate {topic}\n")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"error TOPIC_NOT_FOUND: Topic '{topic}' does not exist",
        "error: unknown command 'subb'; did you mean 'sub'?",
        "error 404: topic not found",
        "error: TEXT begins like JSON but is none: Expecting value at character 2 (''); "
        "to send it as text, put it in quotes",
        f"ok: created {topic}",
        "error 409: topic already exists",
    ]


def test_script_from_a_file(server: ServerProcess, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("help ping")
    with script.open() as opened:
        done = subprocess.run(
            client_command(server.url),
            stdin=opened,
            capture_output=True,
            timeout=3 * PATIENCE,
            env=client_environment(),
        )
    assert done.returncode == 0
    assert done.stdout.startswith(b"ping  ")


def test_row_30_escape_sequences_of_others_are_inert(server: ServerProcess, topic: str) -> None:
    """The JSON of a publisher may contain C1, DEL and bidi controls without escapes."""
    script = f'create {topic}\nsub {topic}\npub {topic} "\x9b2J\x7f\u202e"\nsub \x1b[2J\nxy\x1bz\n'
    done = run_script(server.url, script)
    assert f'[{topic}] #1 ID: "\\u009b2J\\u007f\\u202e"' in without_ids(done.stdout)
    assert "error: unknown command 'xy\\u001bz'" in done.stdout
    assert all(is_inert(character) for line in done.stdout.split("\n") for character in line)


def test_bytes_that_are_not_utf_8(server: ServerProcess) -> None:
    done = run_script(server.url, b"pub orders \xff\nping\n")
    assert done.returncode == 1
    assert done.stdout.startswith("error: expected UTF-8, but character 12 of the line is not\nok: pong")


def test_unreachable_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run_script(url, "ping\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: cannot reach {url}: Connection refused\n"


def test_a_url_that_is_none() -> None:
    done = run_script("localhost", "ping\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must look like http://127.0.0.1:8080" in done.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Enable SIGINT: a shell starts background programs with SIGINT ignored, and a child inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_script(server: ServerProcess) -> None:
    with start_script(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("ping\n")
        assert process.stdout.readline().startswith("ok: pong")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_nobody_reads_the_output_any_more(server: ServerProcess, topic: str) -> None:
    with start_script(server.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"create {topic}\nsub {topic}\n")
        assert process.stdout.readline() == f"ok: created {topic}\n"
        assert process.stdout.readline() == f"ok: subscribed to {topic}\n"
        process.stdout.close()
        run_script(server.url, f"pub {topic} hello\n")
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_reconnects_and_subscribes_again(end: signal.Signals, topic: str) -> None:
    with ForkedServer("--reconnect-spread-sec", "0.1") as first, start_script(first.url) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"create {topic}\nsub {topic}\n")
        assert process.stdout.readline() == f"ok: created {topic}\n"
        assert process.stdout.readline() == f"ok: subscribed to {topic}\n"
        first.stop(end)
        assert process.stderr.readline().endswith("; trying again\n")
        with ForkedServer("--port", str(first.port)):
            told = ""
            while "any more; subscribing again as soon as it does" not in told:
                told = process.stderr.readline()
                assert told, "the client has ended"
            run_script(first.url, f"create {topic}\n")
            assert (
                process.stderr.readline() == f"subscribed again to {topic}; it was created again; its messages follow\n"
            )
            process.stdin.write(f"pub {topic} again\nquit\n")
            output = process.communicate(timeout=PATIENCE)[0]
    assert f'[{topic}] #1 ID: "again"' in without_ids(output)
    assert process.returncode == 0


# --- At a terminal


class Terminal:
    """A client at a pseudo-terminal; ``expect`` reads its output without colours and cursor movements."""

    def __init__(self, url: str, state: Path, **environment: str) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 200))
        more = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "XDG_STATE_HOME": str(state)} | environment
        self.process = subprocess.Popen(
            client_command(url), stdin=slave, stdout=slave, stderr=slave, env=client_environment(**more)
        )
        os.close(slave)
        self.raw = ""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ready(self) -> None:
        """Wait for the prompt after the message that it is connected: before, the terminal may be in cooked mode."""
        self.expect("connected to")
        self.expect("pubsub>")

    def enter(self, line: str) -> None:
        self.type(f"{line}\r")

    def expect(self, text: str) -> None:
        """Read until ``text`` is shown after the last expected text."""
        deadline = time.monotonic() + PATIENCE
        while (found := self._shown().find(text, self._seen)) < 0:
            assert self.read_some(deadline), f"expected {text!r}, got {self._shown()[self._seen :]!r}"
        self._seen = found + len(text)

    def read_some(self, deadline: float) -> bool:
        """Read some output; return False if none came until ``deadline``, or the client has ended."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            self.raw += os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # the client has ended
            return False
        return True

    def shows(self, text: str, *, within: float) -> bool:
        deadline = time.monotonic() + within
        while text not in self._shown()[self._seen :]:
            if not self.read_some(deadline):
                return False
        return True

    def _shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def wait(self) -> int:
        """Read to the end, and return the exit status."""
        while self.read_some(time.monotonic() + PATIENCE):
            pass
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)


def test_session_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.expect(f"connected to {server.url} as console-")
        terminal.enter(f"create {topic}")
        terminal.expect(f"ok: created {topic}")
        terminal.enter(f"sub {topic}")
        terminal.expect(f"ok: subscribed to {topic}")
        run_script(server.url, f"pub {topic} from-elsewhere\n")
        terminal.expect(f"[{topic}] #1 ")
        terminal.expect('"from-elsewhere"')
        terminal.enter("subb")
        terminal.expect("did you mean 'sub'?")
        terminal.enter("quit")
        assert terminal.wait() == 0
    assert "\x1b[36m[" in terminal.raw
    assert f"+create {topic}\n" in (tmp_path / "pubsub" / "history").read_text()
    assert (tmp_path / "pubsub" / "history").stat().st_mode & 0o077 == 0


def test_completion_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    run_script(server.url, f"create {topic}\n")
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.type("unsu\t")
        terminal.expect("b")
        terminal.type(topic[:-4])
        terminal.expect(topic[-5])
        while not terminal.shows(topic[-4:], within=0.2):  # the client fetches the names of topics in the background
            terminal.type("\t")
        terminal.type("\r")
        terminal.expect(f"ok: unsubscribed from {topic}")
        terminal.expect("pubsub>")  # before it the terminal may be in cooked mode, where the kernel takes Ctrl-D
        terminal.type("\x04")
        assert terminal.wait() == 0


def test_ctrl_c_at_a_terminal(server: ServerProcess, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.type("nonsense\x03")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.expect("pubsub>")
        terminal.type("x\x03\x03")
        assert terminal.wait() == 0
    assert "unknown command" not in terminal.raw


def test_pasted_lines_at_a_terminal(server: ServerProcess, topic: str, tmp_path: Path) -> None:
    with Terminal(server.url, tmp_path) as terminal:
        terminal.ready()
        terminal.enter(f"\x1b[200~create {topic}\nsub {topic}\nquit\nping\x1b[201~")
        terminal.expect(f"ok: created {topic}")
        terminal.expect(f"ok: subscribed to {topic}")
        assert terminal.wait() == 0
    assert "pong" not in terminal.raw


def test_terminal_without_colours_or_a_place_for_the_history(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "pubsub").write_text("a file where a folder should be")
    with Terminal(server.url, tmp_path, NO_COLOR="1") as terminal:
        terminal.expect("connected to")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.enter("quit")
        assert terminal.wait() == 0
    assert not re.search(r"\x1b\[[0-9;]*[39][0-9]m", terminal.raw)


def test_terminal_without_prompt_toolkit(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "prompt_toolkit.py").write_text("raise ModuleNotFoundError('gone', name='prompt_toolkit')")
    with Terminal(server.url, tmp_path, PYTHONPATH=f"{tmp_path}:{REPOSITORY}") as terminal:
        terminal.expect("prompt_toolkit is missing; install the extra 'client'")
        terminal.enter("ping")
        terminal.expect("ok: pong")
        terminal.enter("quit")
        assert terminal.wait() == 0


def test_terminal_keeps_trying(tmp_path: Path) -> None:
    with Terminal(f"http://127.0.0.1:{free_port()}", tmp_path) as terminal:
        terminal.expect("Connection refused; trying again")
        terminal.expect("pubsub (connecting)>")
        terminal.enter("ping")
        terminal.expect("error: not connected: cannot reach")
        terminal.enter("quit")
        assert terminal.wait() == 0
