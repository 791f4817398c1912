"""The cost of two servers on one Redis: CPU time a message in each, and the time from publish to delivery across them.

    python scripts/bench/cluster.py [--seconds 3] [--json rows.json] [--cache FOLDER]

Beside it: this server alone, python-socketio with its Redis manager, and as the floor of the machine what two processes
do that only talk to Redis: one has a PING or a PUBLISH answered, the other gets the pushes and ignores them. Messages
have 200 bytes. CPU times are those of the processes, all on the same cores: compare them with each other, and not with
those of another machine.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import uvloop
from install import SCRIPTS, Cache, Missing

ROOT = Path(__file__).parents[2]
RATE = 1000
"""Messages a second in the cells with a pace."""
IN_FLIGHT = 200
"""Messages without an answer in the cells without a pace."""
BURSTS = {"1 a tick": 1, "20 a tick": 20}
PATIENCE = 5
NOTE = "x" * 120


@dataclass(frozen=True)
class Dialect:
    """The way to talk to a peer: path, first messages with what the answer holds, a publish, and its answer."""

    path: str
    opening: Sequence[tuple[str, str]]
    publish: Callable[[int], str]
    is_answer: Callable[[str], bool]
    stamp: Callable[[str], int | None]


def publish_ours(stamp: int) -> str:
    message = {"id": str(uuid.uuid4()), "payload": {"stamp": stamp, "note": NOTE}}
    return json.dumps({"type": "publish", "topic": "bench", "message": message, "request_id": "p"})


def stamp_of(text: str) -> int | None:
    """The stamp of an event, None for other messages."""
    _, found, rest = text.partition('"stamp":')
    return int(rest.partition(",")[0]) if found else None


SUBSCRIBE = json.dumps({"type": "subscribe", "topic": "bench", "client_id": "bench", "request_id": "s"})
OURS = Dialect("/ws", [(SUBSCRIBE, '"request_id":"s"')], publish_ours, lambda text: '"ack"' in text[:30], stamp_of)
SOCKETIO = Dialect(
    "/socket.io/?EIO=4&transport=websocket",
    [("40", "40"), ('420["subscribe"]', "430")],
    lambda stamp: f'421["publish",{{"stamp":{stamp},"note":"{NOTE}"}}]',
    lambda text: text.startswith("431"),
    stamp_of,
)


class Processes:
    """The processes of a run, ended with it. ``cpu``: CPU nanoseconds of one of them so far."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, command: Sequence[str | Path], port: int) -> int:
        """Start a program that listens on ``port``; returns its process id."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DATA_DIR": str(self.folder / "data")}
        log = self._stack.enter_context((self.folder / f"{port}.log").open("w"))
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log, cwd=self.folder)
        self._stack.callback(_end, process)
        wait_for(port, self.folder / f"{port}.log")
        return process.pid


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def cpu(pid: int) -> int:
    """CPU nanoseconds of a process and its threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise Missing(f"no answer on port {port}: {log.read_text()[-500:]}")
        time.sleep(0.02)


@contextmanager
def running(peer: str, python: Path | None) -> Iterator[tuple[dict[str, int], list[int]]]:
    """Start a peer: the process ids by their part, and the ports of its servers, the publishing one first."""
    with Processes() as processes:
        redis = free_port()
        pids = {}
        if peer != "ours alone":
            command = ("redis-server", "--port", redis, "--save", "", "--dir", processes.folder)
            pids["redis"] = processes.start([str(each) for each in command], redis)
        ports = [free_port() for _ in range(1 if peer == "ours alone" else 2)]
        for part, port in zip(("publishing", "receiving"), ports, strict=False):
            if python is None:
                command_ours = [sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", str(port)]
                if peer != "ours alone":
                    command_ours += ["--journal-url", f"redis://127.0.0.1:{redis}"]
                pids[part] = processes.start(command_ours, port)
            else:
                pids[part] = processes.start([python, SCRIPTS / "socketio_broadcast.py", str(port), str(redis)], port)
        yield pids, ports


class Client:
    """A connection to a peer. ``delays``: seconds from publish to delivery of each event sent after ``since``."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, dialect: Dialect) -> None:
        self._websocket = websocket
        self._dialect = dialect
        self.answers = 0
        self.delays: list[float] = []
        self.since = time.perf_counter_ns()
        self._changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, dialect: Dialect, *, subscribes: bool) -> AsyncIterator["Client"]:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"http://127.0.0.1:{port}{dialect.path}", max_msg_size=0) as websocket,
        ):
            if dialect is SOCKETIO:
                await websocket.receive()
            for text, answer in dialect.opening if subscribes else dialect.opening[:-1]:
                await websocket.send_str(text)
                while answer not in (await websocket.receive()).data:
                    pass
            client = cls(websocket, dialect)
            reading = asyncio.create_task(client._read())
            yield client
            reading.cancel()

    async def _read(self) -> None:
        is_answer, stamp = self._dialect.is_answer, self._dialect.stamp
        async for message in self._websocket:
            text = message.data
            if is_answer(text):
                self.answers += 1
            elif (sent := stamp(text)) is not None and sent >= self.since:
                self.delays.append((time.perf_counter_ns() - sent) / 1e9)
            elif text == "2":  # the ping of Engine.IO
                await self._websocket.send_str("3")
            self._changed.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def has_answers(self, count: int) -> bool:
        return self.answers >= count

    async def publish(self, count: int) -> None:
        for _ in range(count):
            await self._websocket.send_str(self._dialect.publish(time.perf_counter_ns()))


async def send_at_pace(client: Client, burst: int, seconds: float) -> int:
    """Publish RATE messages a second, ``burst`` at a time. Returns their number."""
    begin, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < begin + seconds:
        due = begin + sent / RATE
        if now < due:
            await asyncio.sleep(due - now)
        await client.publish(burst)
        sent += burst
    await client.wait(lambda: client.answers == sent)
    return sent


async def send_fast(client: Client, seconds: float) -> int:
    """Publish as fast as answers come. Returns the number of messages."""
    begin, sent = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        await client.publish(IN_FLIGHT // 4)
        sent += IN_FLIGHT // 4
        await client.wait(partial(client.has_answers, sent - IN_FLIGHT))
    await client.wait(lambda: client.answers == sent)
    return sent


Row = dict[str, Any]


async def measure(peer: str, dialect: Dialect, pids: dict[str, int], ports: list[int], seconds: float) -> list[Row]:
    rows = []
    if dialect is OURS:
        await create_topic(ports[0])
    async with (
        Client.open(ports[-1], dialect, subscribes=False),  # python-socketio listens to Redis from the first client on
        Client.open(ports[0], dialect, subscribes=False) as publisher,
    ):
        for cell, burst in BURSTS.items():
            rows.append(await cpu_row(cell, peer, pids, publisher, burst, seconds))
        rows.append(await cpu_row("as fast as it can", peer, pids, publisher, 0, seconds))
        if len(ports) > 1:
            async with Client.open(ports[1], dialect, subscribes=True) as subscriber:
                rows.append(await delay_row(peer, publisher, subscriber, seconds))
    return rows


async def create_topic(port: int) -> None:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        http.post("/topics", json={"name": "bench"}) as response,
    ):
        assert response.status == 201, await response.text()


async def cpu_row(cell: str, peer: str, pids: dict[str, int], publisher: Client, burst: int, seconds: float) -> Row:
    """CPU microseconds a message of each process, without what it does when idle."""
    publisher.answers = 0
    await asyncio.sleep(0.5)  # what began before ends
    start = {part: cpu(pid) for part, pid in pids.items()}
    await asyncio.sleep(seconds / 2)
    idle = {part: (cpu(pid) - start[part]) / (seconds / 2) for part, pid in pids.items()}
    begin, start = time.perf_counter(), {part: cpu(pid) for part, pid in pids.items()}
    count = await (send_at_pace(publisher, burst, seconds) if burst else send_fast(publisher, seconds))
    await asyncio.sleep(0.05)
    took = time.perf_counter() - begin
    figures = {
        f"{part}_us": round((cpu(pid) - start[part] - idle[part] * took) / count / 1000, 1)
        for part, pid in pids.items()
    }
    return {"cell": cell, "peer": peer, "figures": {**figures, "rate": round(count / took)}}


async def delay_row(peer: str, publisher: Client, subscriber: Client, seconds: float) -> Row:
    publisher.answers = 0
    sent = await send_at_pace(publisher, 1, seconds)
    with contextlib.suppress(TimeoutError):
        await subscriber.wait(lambda: len(subscriber.delays) == sent)
    cuts = quantiles(subscriber.delays, n=100) if len(subscriber.delays) > 1 else [inf] * 99
    figures = {"p50_ms": round(cuts[49] * 1e3, 2), "p99_ms": round(cuts[98] * 1e3, 2)}
    return {"cell": "across servers", "peer": peer, "figures": {**figures, "lost": sent - len(subscriber.delays)}}


class Pinger(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport


PING = b"PING\r\n"
FLOORS = {"a bare PING": PING, "a bare PUBLISH": b"PUBLISH bench %b\r\n" % (b"x" * 300)}


async def measure_floor(pids: dict[str, int], port: int, seconds: float) -> list[Row]:
    """CPU of this process for a command and its reply, that of Redis, and that of a process that gets the pushes."""
    loop = asyncio.get_running_loop()
    _, pinger = await loop.create_connection(Pinger, "127.0.0.1", port)

    async def tick(command: bytes) -> dict[str, float]:
        begin, count, own = time.perf_counter(), 0, time.process_time_ns()
        before = {part: cpu(pid) for part, pid in pids.items()}
        while time.perf_counter() < begin + seconds:
            if command:
                pinger.transport.write(command)
            await asyncio.sleep(1 / RATE)
            count += 1
        used = {part: cpu(pid) - before[part] for part, pid in pids.items()}
        return {f"{part}_us": ns / count / 1000 for part, ns in used.items()} | {
            "publishing_us": (time.process_time_ns() - own) / count / 1000
        }

    without = await tick(b"")
    rows = []
    for peer, command in FLOORS.items():
        found = await tick(command)
        figures = {part: round(each - without[part], 1) for part, each in found.items()}
        if command == PING:
            del figures["receiving_us"]  # it gets nothing
        rows.append({"cell": "1 a tick", "peer": peer, "figures": figures})
    pinger.transport.abort()
    return rows


def rows_of(cache: Cache, names: Sequence[str], seconds: float) -> Iterator[Row]:
    if shutil.which("redis-server") is None:
        raise Missing("needs redis-server: apt-get install redis-server")
    peers: list[tuple[str, Dialect, Path | None]] = [("ours alone", OURS, None), ("ours", OURS, None)]
    try:
        environment = cache.environment("cluster", Path(sys.executable), SCRIPTS / "requirements-cluster.txt")
        peers.append(("python-socketio", SOCKETIO, environment))
    except Missing as reason:
        print(f"python-socketio is missing: {reason}", file=sys.stderr)
    for peer, dialect, python in [each for each in peers if each[0] in names]:
        with running(peer, python) as (pids, ports):
            yield from uvloop.run(measure(peer, dialect, pids, ports, seconds))
    with Processes() as processes:
        port = free_port()
        pids = {"redis": processes.start(["redis-server", "--port", str(port), "--save", ""], port)}
        ready = free_port()
        listener = SCRIPTS / "redis_listener.py"
        pids["receiving"] = processes.start([sys.executable, listener, str(port), str(ready)], ready)
        yield from uvloop.run(measure_floor(pids, port, seconds))


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure two servers on one Redis.")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--peers", default="ours alone,ours,python-socketio", help="separated by commas")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "bench", help="folder for the peer")
    options = parser.parse_args()
    rows = []
    for row in rows_of(Cache(options.cache), options.peers.split(","), options.seconds):
        print(json.dumps(row), flush=True)
        rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
