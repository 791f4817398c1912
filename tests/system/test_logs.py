"""The log of a whole server: the lines that users search for, the same lines as JSON, all client text escaped."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest

from tests.harness import (
    REPOSITORY,
    ForkedServer,
    Json,
    RawClient,
    ServerProcess,
    clean_environment,
    eventually,
    free_port,
    masked_frame,
    new_id,
    on_one_loop,
)

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d{3}"
LINE = re.compile(rf"{STAMP} \[(DEBUG|INFO|WARN|ERROR)\] .+")
ID = "550e8400-e29b-41d4-a716-446655440000"
SECRET = "SECRET-PAYLOAD"

# Each required line, and the facts that its JSON line has as fields.
LINES: dict[str, list[Any]] = {
    r"\[INFO\] Configuration loaded: Port=\d+, RingBuffer=50, SubscriberQueue=100": [50, 100],
    r"\[INFO\] Topic created: orders \(buffer size: 50\)": ["orders", 50],
    r"\[INFO\] Client connected: client-abc123": ["client-abc123"],
    r"\[INFO\] Client client-abc123 subscribed to topic orders": ["client-abc123", "orders"],
    rf"\[DEBUG\] Message published to topic orders: id={ID}": ["orders", ID],
    r"\[WARN\] Slow consumer detected: client_id=client-xyz": ["client-xyz"],
    r"\[ERROR\] WebSocket error for client client-abc123: .+": ["client-abc123"],
}
# The original logs it at info level; here it is at debug level, because there is one for each message.
LEVEL_OF_PUBLISH = r"\[(DEBUG|INFO)\] Message published"


async def log_of_a_busy_life(*flags: str) -> str:
    """Run a server through everything that is logged; return its log."""
    limits = ("--write-wait-sec", "0.3", "--shutdown-timeout-sec", "0.5")
    with ForkedServer("--ring-buffer-size", "50", *limits, *flags) as server:
        await server.create("orders")
        slow = await RawClient.connect(server.port, receive_buffer=1 << 16, path="/ws?client_id=client-xyz")
        await slow.subscribe("orders")
        client = await RawClient.connect(server.port, path="/ws?client_id=client-abc123")
        await client.subscribe("orders")
        publish: Json = {"type": "publish", "topic": "orders", "message": {"id": ID, "payload": SECRET}}
        await client.send_text(publish)
        await client.send_text({"type": "publish", "topic": "orders", "message": {"id": SECRET, "payload": SECRET}})
        publisher = await RawClient.connect(server.port, path="/ws?client_id=publisher")
        for _ in range(200):
            await publisher.send_text(
                {"type": "publish", "topic": "orders", "message": {"id": new_id(), "payload": SECRET * 6000}}
            )
            assert (await publisher.receive())["type"] == "ack"
        server.read_log_until("Slow consumer")
        client = await RawClient.connect(server.port, path="/ws?client_id=client-abc123")
        await client.send(masked_frame(0x83, b""))
        assert await client.close_code() == 1002
        assert server.stop() == 0
        return server.log


@on_one_loop
async def test_the_lines_that_users_look_for() -> None:
    log = await log_of_a_busy_life("--log-level", "debug")
    for line in log.splitlines():
        assert LINE.fullmatch(line), line
    for wanted in LINES:
        pattern = wanted.replace(r"\[DEBUG\] Message published", LEVEL_OF_PUBLISH)
        assert re.search(rf"(?m)^{STAMP} {pattern}$", log), wanted
    assert SECRET not in log, "never a payload"


@on_one_loop
async def test_json_has_the_same_facts_as_fields() -> None:
    log = await log_of_a_busy_life("--log-level", "debug", "--log-format", "json")
    lines = [json.loads(line) for line in log.splitlines()]
    for line in lines:
        assert type(line) is dict
        assert line["level"].lower() in ("debug", "info", "warn", "error")
    for wanted, facts in LINES.items():
        sentence = re.compile(wanted.partition(r"\] ")[2])
        found = [line for line in lines if any(sentence.fullmatch(str(value)) for value in line.values())]
        assert found, wanted
        for fact in facts:
            assert any(fact in line.values() for line in found), f"{fact!r} is no field of {found[0]}"
    assert SECRET not in log, "never a payload"


@on_one_loop
async def test_nothing_is_logged_for_a_publish_at_info_level() -> None:
    with ForkedServer() as server:
        await server.create("orders")
        client = await RawClient.connect(server.port)
        lines_before = len(server.log.splitlines())
        for _ in range(10):
            await client.send_text({"type": "publish", "topic": "orders", "message": {"id": ID, "payload": 1}})
            assert (await client.receive())["type"] == "ack"
        assert server.stop() == 0
        assert ID not in server.log
        assert "published" not in server.log
        assert len(server.log.splitlines()) - lines_before < 10


@pytest.mark.parametrize(
    ("flags", "environment"), [(["--log-level", "debug"], {}), ([], {"GIN_MODE": "debug"})], ids=["flag", "GIN_MODE"]
)
@on_one_loop
async def test_at_debug_level_each_publish_has_a_line(flags: list[str], environment: dict[str, str]) -> None:
    with ServerProcess(*flags, environment=environment) as server:
        await server.create("orders")
        client = await RawClient.connect(server.port)
        for _ in range(3):
            await client.send_text({"type": "publish", "topic": "orders", "message": {"id": ID, "payload": 1}})
        assert server.stop() == 0
        assert server.log.count(f"Message published to topic orders: id={ID}") == 3


def test_at_warn_level_there_are_no_lines_of_everyday() -> None:
    port = free_port()  # at warn level no line has it
    command = [sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = clean_environment() | {"LOG_LEVEL": "warn"}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as server:
        asyncio.run(eventually(lambda: accepts(port)))
        server.terminate()
        assert server.communicate(timeout=30)[1] == ""
        assert server.returncode == 0


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


HOSTILE = [
    "\n2025-08-25 10:00:00,000 [ERROR] forged",
    "\r\n",
    "\x00\x07\x08\x0b\x0c",
    "\x1b[2J\x1b]0;title\x07",
    "\x7f\x85\x9b",
    "\u2028\u2029\u202e\u2066\u200f",
    "%s %(client_id)s {0}",
    '"},{"level":"error"',
    "\\n\\u000a",
]
ALLOWED_IN_LOGS = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]*")


@pytest.mark.parametrize("form", ["text", "json"])
@on_one_loop
async def test_what_clients_choose_is_escaped(form: str) -> None:
    with ForkedServer("--log-format", form, "--log-level", "debug") as server:
        await server.create("orders")
        for text in HOSTILE:
            named = await RawClient.connect(server.port, path=f"/ws?client_id={quote(text, safe='')}")
            await named.subscribe("orders")
            await named.send(masked_frame(0x88, (1000).to_bytes(2, "big") + text.encode()[:123]))
            assert await named.is_gone()
            unnamed = await RawClient.connect(server.port, path="/ws")
            await unnamed.subscribe("orders", client_id=text)
            await unnamed.subscribe("orders", client_id="x")
            await unnamed.send_text({"type": text, "topic": text, "client_id": text, "request_id": text})
            assert (await unnamed.receive())["type"] == "error"
            await unnamed.send(masked_frame(0x83, text.encode()))
            assert await unnamed.close_code() == 1002
            http = await RawClient.connect_tcp(server.port)
            await http.request("DELETE", f"/topics/{quote(text, safe='')}")
            await http.request("POST", "/topics", json.dumps({"name": text}).encode())
            await http.request("GET", f"/{quote(text, safe='')}?x={quote(text, safe='')}")
        odd = await RawClient.connect(server.port, path="/ws?client_id=%FF%FE")
        await odd.subscribe("orders")
        assert server.stop() == 0
    assert ALLOWED_IN_LOGS.fullmatch(server.log), ALLOWED_IN_LOGS.sub("", server.log)
    for line in server.log.splitlines():
        if form == "json":
            assert type(json.loads(line)) is dict
        else:
            assert LINE.fullmatch(line), line
    assert server.log.count("subscribed to topic orders") >= 3 * len(HOSTILE)


@on_one_loop
async def test_a_json_field_is_no_more_dangerous_than_the_line() -> None:
    """A field printed to a terminal cannot move the cursor."""
    with ForkedServer("--log-format", "json") as server:
        text = "\x1b[2J\n\u202e"
        client = await RawClient.connect(server.port, path=f"/ws?client_id={quote(text, safe='')}")
        client.close()
        assert server.stop() == 0
    values = [value for line in server.log.splitlines() for value in json.loads(line).values()]
    for value in values:
        assert ALLOWED_IN_LOGS.fullmatch(str(value)), value
        assert "\n" not in str(value)
