"""``serve --workers``: several processes are one server, whichever of them a client reaches."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from certificate import write_certificate

from tests.harness import (
    LOCAL,
    PATIENCE,
    REPOSITORY,
    RawClient,
    ServerProcess,
    clean_environment,
    eventually,
    new_id,
    on_one_loop,
    publish_request,
)
from tests.test_activation import launch, listening, port_of
from tests.workers.serving import WorkersProcess, by_worker, connect_all, is_running, lines_of, scrape

WORKERS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[WorkersProcess]:
    with WorkersProcess(WORKERS, "--metrics-topics", "2") as server:
        yield server


# One server


@on_one_loop
async def test_clients_at_all_workers_get_the_same_events_in_one_order(server: WorkersProcess) -> None:
    topic = f"t.{new_id()}"
    await server.create(topic)
    clients = await connect_all(server, 2 * WORKERS)
    for client in clients:
        await client.subscribe(topic)
    for number in range(20):
        for place, client in enumerate(clients):
            await client.send_text(publish_request(topic, [place, number]))
    got: list[list[tuple[int, list[int]]]] = []
    for client in clients:
        events: list[tuple[int, list[int]]] = []
        acks = 0
        while len(events) < 20 * len(clients) or acks < 20:
            message = await client.receive()
            if message["type"] == "event":
                events.append((message["seq"], message["message"]["payload"]))
            else:
                assert message["type"] == "ack", message
                acks += 1
        got.append(events)
        client.close()
    assert [seq for seq, _ in got[0]] == list(range(1, 20 * len(clients) + 1))
    assert all(events == got[0] for events in got)


@on_one_loop
async def test_a_topic_is_everywhere_as_soon_as_its_creation_is_answered(server: WorkersProcess) -> None:
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as http:
        for _ in range(10):
            topic = f"t.{new_id()}"
            async with http.post("/topics", json={"name": topic, "history": 7}) as response:
                assert response.status == 201
            async with http.post(f"/topics/{topic}/messages", json={"payload": 1}) as response:
                assert (await response.json())["seq"] == 1
            for _ in range(WORKERS):
                async with http.get(f"/topics/{topic}") as response:
                    assert (await response.json())["options"]["history"] == 7
            async with http.delete(f"/topics/{topic}") as response:
                assert response.status == 200
            async with asyncio.timeout(PATIENCE):
                while await knows(http, topic):  # a few milliseconds
                    pass


async def knows(http: aiohttp.ClientSession, topic: str) -> bool:
    """True if any worker knows the topic."""
    found = False
    for _ in range(WORKERS):
        async with http.get(f"/topics/{topic}") as response:
            found = found or response.status != 404
    return found


# Spread


@on_one_loop
async def test_each_worker_has_as_many_connections(server: WorkersProcess) -> None:
    clients = await connect_all(server, 20 * WORKERS)

    async def spread() -> list[float]:
        return sorted(by_worker(await scrape(server.url), "pubsub_connections", transport="websocket").values())

    try:
        assert await spread() == [20] * WORKERS
        for client in clients[: 10 * WORKERS : 2]:  # all of two workers
            client.close()
        async with asyncio.timeout(PATIENCE):
            while sum(await spread()) != 15 * WORKERS:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.3)
            await asyncio.sleep(0.3)  # the supervisor knows it as late
        clients += await connect_all(server, 5 * WORKERS)
        low, *_, high = await spread()
        assert high - low <= 1
    finally:
        for client in clients:
            client.close()


# Log and metrics


@on_one_loop
async def test_each_line_of_the_log_names_its_worker(server: WorkersProcess) -> None:
    (await RawClient.connect(server.port, path="/ws?client_id=somebody-new")).close()
    server.read_log_until("connected: somebody-new")
    found = list(lines_of(server.log))
    assert {each["worker"] for each in found} >= {None}
    last = found[-1]
    assert last["worker"] in [str(number) for number in range(1, WORKERS + 1)]
    listens = [each for each in found if each["text"].startswith("Listening on")]
    assert [each["worker"] for each in listens] == [None]


@on_one_loop
async def test_a_topic_begins_and_ends_with_one_line_whichever_worker_was_asked(server: WorkersProcess) -> None:
    topics = [f"t.{new_id()}" for _ in range(WORKERS)]
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(force_close=True)) as http:
        for topic in topics:
            async with http.post("/topics", json={"name": topic}) as response:
                assert response.status == 201
            async with http.delete(f"/topics/{topic}") as response:
                assert response.status == 200
            async with asyncio.timeout(PATIENCE):
                while await knows(http, topic):
                    pass
    for client in await connect_all(server, WORKERS, prefix="later"):
        client.close()
    for _ in range(WORKERS):
        server.read_log_until("Client disconnected: later")
    for topic in topics:
        assert [server.log.count(f"Topic {change}: {topic}") for change in ("created", "deleted")] == [1, 1]


@on_one_loop
async def test_a_scrape_of_any_worker_is_for_all(server: WorkersProcess) -> None:
    before = sum(by_worker(await scrape(server.url), "pubsub_delivered_messages_total").values())
    topic = f"t.{new_id()}"
    await server.create(topic)
    clients = await connect_all(server, WORKERS)
    for client in clients:
        await client.subscribe(topic)
    await clients[0].send_text(publish_request(topic, 1))
    for client in clients:
        while (await client.receive())["type"] != "event":
            pass
    for _ in range(WORKERS):
        samples = await scrape(server.url)
        delivered = by_worker(samples, "pubsub_delivered_messages_total")
        assert sorted(delivered) == list(range(1, WORKERS + 1))
        assert sum(delivered.values()) == before + WORKERS
        published = [value for (name, labels), value in samples.items() if name == "pubsub_published_messages_total"]
        assert len(published) == 1, "a message is counted once, not by each worker"
        assert by_worker(samples, "pubsub_worker_up") == dict.fromkeys(range(1, WORKERS + 1), 1)
        assert len(by_worker(samples, "process_resident_memory_bytes")) == WORKERS
    for client in clients:
        client.close()


# Kinds of sockets


def short(path: Path) -> str:
    """The path as a Unix socket needs it."""
    return os.path.relpath(path)


@on_one_loop
async def test_tls_and_unix_sockets_of_systemd_are_spread_too(tmp_path: Path) -> None:
    path = short(tmp_path / "s")
    certificate, key = write_certificate(tmp_path, "a.example")
    with listening() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path)
        unix.listen()
        flags = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
        with launch([tcp, unix], "--workers", "2", *flags) as process:
            assert process.stderr is not None
            while "Listening on https+unix:" not in (line := process.stderr.readline()):
                assert line, "it has ended"
            try:
                await check_spread(port_of(tcp), path)
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=PATIENCE) == 0
                assert "Traceback" not in process.stderr.read()
            finally:
                process.kill()


async def check_spread(port: int, path: str) -> None:
    """Check that connections over TLS, to a port and to a Unix socket, are spread over both workers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    writers: list[asyncio.StreamWriter] = []
    for kind in ("tcp", "unix"):
        servers: Counter[str] = Counter()
        for _ in range(6):
            if kind == "tcp":
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            else:
                reader, writer = await asyncio.open_unix_connection(path, ssl=context, server_hostname="a.example")
            writers.append(writer)  # one that has ended may count no longer
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"}"), PATIENCE)
            servers[json.loads(answer.partition(b"\r\n\r\n")[2])["server"]] += 1
        assert sorted(servers.values()) == [3, 3]
    for writer in writers:
        writer.close()
        await writer.wait_closed()


# Starts that fail


def test_a_worker_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    done = run_to_end("--workers", "2", "--data-dir", str(tmp_path), "--log-format", "json", "--log-level", "critical")
    assert done.returncode == 1
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line.items() >= {"level": "error", "worker": 1, "logger": "pubsub.workers.process"}.items()
    assert line["msg"].startswith("Cannot start: ")
    assert line["reason"].endswith("file is not a database")


def test_an_address_in_use_is_named_once() -> None:
    with listening() as taken:
        done = run_to_end("--workers", "2", "--port", str(port_of(taken)))
    assert done.returncode == 1
    assert done.stderr.count("can't listen on 127.0.0.1 port") == 1
    assert "Traceback" not in done.stderr


def test_a_url_of_an_unknown_engine_is_named_once() -> None:
    done = run_to_end("--workers", "3", "--journal-url", "memory")
    assert done.returncode == 1
    assert done.stderr.count("JOURNAL_URL: expected a URL") == 1
    assert "Traceback" not in done.stderr


def run_to_end(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pubsub", "serve", *LOCAL, "--port", "0", *flags],
        cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=3 * PATIENCE,
    )  # fmt: skip


# Ends


@on_one_loop
async def test_clients_of_all_workers_are_drained_within_the_time(tmp_path: Path) -> None:
    flags = ["--shutdown-timeout-sec", "3", "--reconnect-spread-sec", "0.2", "--log-format", "json"]
    with WorkersProcess(2, *flags) as server:
        pids = server.pids
        clients = await connect_all(server, 4)
        await server.create("t")
        stalled = await RawClient.connect(server.port, receive_buffer=4096)
        await stalled.subscribe("t")
        for _ in range(30):
            await clients[0].send_text(publish_request("t", "x" * 100_000))
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            messages = [each async for each in client.read_messages()]
            assert messages[-1]["msg"] == "draining"
        assert server.wait() == 0
        assert time.monotonic() - began < 3 + 2
        assert not [pid for pid in pids.values() if is_running(pid)]
    found = [json.loads(line) for line in server.log.splitlines()]
    ends = [each.get("worker") for each in found if each["msg"] == "Shutdown complete"]
    assert ends == [2, 1, None], "the owner of the topics ends last"
    assert "killed" not in server.log


@on_one_loop
async def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with WorkersProcess(2, "--drain-sec", "60", environment={"TMPDIR": str(tmp_path)}) as server:
        pids = server.pids
        server.process.send_signal(signal.SIGTERM)
        server.read_log_until("shutting down")
        health = await RawClient.connect_tcp(server.port)
        async with asyncio.timeout(PATIENCE):
            while (await health.request("GET", "/health"))[0] != 503:
                pass
        assert server.stop(signal.SIGINT) == 128 + signal.SIGINT
        await eventually(lambda: not [pid for pid in pids.values() if is_running(pid)])
    assert not os.listdir(tmp_path)


@on_one_loop
async def test_without_their_supervisor_the_workers_end_and_leave_nothing(tmp_path: Path) -> None:
    with WorkersProcess(2, environment={"TMPDIR": str(tmp_path)}) as server:
        pids = server.pids
        client = await RawClient.connect(server.port)
        server.process.kill()
        assert await client.close_code() == 1001
        await eventually(lambda: not [pid for pid in pids.values() if is_running(pid)])
    assert "Traceback" not in server.log
    assert not os.listdir(tmp_path)


# SIGHUP


@on_one_loop
async def test_a_changed_setting_comes_to_all_workers_and_to_those_started_later(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEYS=ops:admin:first-key\n")
    with WorkersProcess(2, directory=tmp_path) as server:
        assert await statuses(server, "first-key") == {200}
        (tmp_path / ".env").write_text("API_KEYS=nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        server.read_log_until("Settings not reloaded: API_KEYS: got a value that is not shown")
        assert await statuses(server, "first-key") == {200}
        (tmp_path / ".env").write_text("API_KEYS=ops:admin:second-key\n")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(2):
            server.read_log_until(r"worker \d: Settings reloaded")
        assert await statuses(server, "second-key") == {200}
        assert await statuses(server, "first-key") == {401}
        server.kill(2)
        server.read_log_until("is started again")
        async with asyncio.timeout(PATIENCE):
            while await statuses(server, "second-key", every=True) != {200}:
                pass
        assert await statuses(server, "first-key") == {401}
        assert server.stop() == 0


async def statuses(server: ServerProcess, key: str, *, every: bool = False) -> set[int]:
    """The statuses that the workers answer to this key. With ``every``, 0 is among them if only one worker answers."""
    connector = aiohttp.TCPConnector(force_close=True)
    found: set[int] = set()
    servers: set[str] = set()
    async with aiohttp.ClientSession(server.url, connector=connector, headers={"X-API-Key": key}) as http:
        for _ in range(6):
            async with http.get("/topics") as response:
                found.add(response.status)
            async with http.get("/health") as response:
                servers.add((await response.json())["server"])
    return found | ({0} if every and len(servers) < 2 else set())
