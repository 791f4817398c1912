"""The cost of the Python client: an event received, beside bare aiohttp and msgspec on the same stream.

    python scripts/bench/sdk.py [--events 300000] [--rounds 3] [--loop uvloop|asyncio] [--peers]

A server on one core replays the same messages to one client after the other, each a process of its own on another core.
It prints a line of JSON for each client: the best rate (events a second) and the least CPU time (µs an event) of the
rounds. All decode the same payloads, and count them. Peers are other libraries with their own servers.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import aiohttp
import machine
import msgspec
import uvloop
from install import SCRIPTS, Cache

REPOSITORY = Path(__file__).parent.parent.parent
SERVER_CORE, CLIENT_CORE = 0, 1
PEER_PORT = 14222
TOPIC = "orders"
PAYLOAD = {"order_id": "ORD-123", "amount": 99.5, "currency": "USD", "lines": [{"sku": "a", "n": 1}], "note": "x" * 120}
LIST = 1000
"""Messages in one call of the REST interface."""


class Message(msgspec.Struct):
    id: str
    payload: Any


class Event(msgspec.Struct, tag_field="type", tag="event"):
    topic: str
    message: Message
    seq: int
    ts: str


class Ack(msgspec.Struct, tag_field="type", tag="ack"):
    seq: int


async def receive_bare(url: str, events: int, last: int) -> None:
    """Receive the events after ``last``, as a program does that has nothing but aiohttp and msgspec."""
    decode = msgspec.json.Decoder(Event | Ack).decode
    request = {"type": "subscribe", "topic": TOPIC, "client_id": "bare", "last_n": events - last}
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/ws", max_msg_size=0) as websocket:
        await websocket.send_json(request)
        while last < events:
            message = decode((await websocket.receive()).data)
            if isinstance(message, Event):
                assert message.seq == last + 1, "the stream has a gap"
                last = message.seq


async def receive_with_client(url: str, events: int, last: int) -> None:
    from pubsub.client import Client, Event

    async with Client(url) as client, client.subscribe(TOPIC, last_n=events - last) as stream:
        async for item in stream:
            assert isinstance(item, Event), item
            assert item.seq == last + 1, "the stream has a gap"
            last = item.seq
            if last == events:
                break


CLIENTS: dict[str, Callable[[str, int, int], Awaitable[None]]] = {"bare": receive_bare, "client": receive_with_client}


def run_client(name: str, url: str, events: int, loop: str) -> None:
    """Receive all events, and print the seconds and the CPU seconds that it took."""

    async def receive() -> None:
        await CLIENTS[name](url, events, events - 1000)  # with all imports
        began, cpu = time.perf_counter(), time.process_time()
        await CLIENTS[name](url, events, 0)
        print(json.dumps([time.perf_counter() - began, time.process_time() - cpu]))

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(receive())


async def fill(url: str, events: int) -> None:
    async with aiohttp.ClientSession(url) as http:
        async with http.post("/topics", json={"name": TOPIC, "history": events}) as answer:
            assert answer.status == 201, await answer.text()
        for first in range(0, events, LIST):
            messages = [{"id": str(uuid.uuid4()), "payload": PAYLOAD} for _ in range(first, min(first + LIST, events))]
            async with http.post(f"/topics/{TOPIC}/messages", json=messages) as answer:
                assert answer.status == 200, await answer.text()


def measure(name: str, url: str, events: int, loop: str) -> list[float]:
    command = [sys.executable, __file__, "--client", name, "--url", url, "--events", str(events), "--loop", loop]
    with machine.pinned(CLIENT_CORE):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, check=True)
    figures: list[float] = json.loads(done.stdout)
    return figures


def measure_nats(cache: Cache, events: int) -> list[float]:
    python, script = cache.python(), str(SCRIPTS / "nats_receive.py")
    with (
        running(SERVER_CORE, python.with_name("nats-server"), "-a", "127.0.0.1", "-p", PEER_PORT),
        running(CLIENT_CORE, python, script, "receive", PEER_PORT, events) as receiver,
    ):
        receiver.readline()  # it has subscribed
        with running(SERVER_CORE, python, script, "publish", PEER_PORT, events):
            figures: list[float] = json.loads(receiver.readline())
    return figures


def measure_socketio(cache: Cache, events: int) -> list[float]:
    python, script = cache.python(), str(SCRIPTS / "socketio_receive.py")
    with (
        running(SERVER_CORE, python, script, "publish", PEER_PORT, events),
        running(CLIENT_CORE, python, script, "receive", PEER_PORT, events) as receiver,
    ):
        receiver.readline()
        figures: list[float] = json.loads(receiver.readline())
    return figures


PEERS: dict[str, Callable[[Cache, int], list[float]]] = {"nats-py": measure_nats, "python-socketio": measure_socketio}


@contextmanager
def running(core: int, *command: object) -> Iterator[IO[str]]:
    """Run a process on a core, and give its output."""
    with machine.pinned(core):
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    assert process.stdout is not None, "it is a pipe"
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def start_server() -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "pubsub", "serve", "--host", "127.0.0.1", "--port", "0"]
    with machine.pinned(SERVER_CORE):
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert server.stderr is not None, "it is a pipe"
    for line in server.stderr:
        if "127.0.0.1:" in line:
            return server, "http://127.0.0.1:" + line.split("127.0.0.1:")[1].split()[0].rstrip(")/,")
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        run_client(chosen.client, chosen.url, chosen.events, chosen.loop)
        return
    events = chosen.events
    server, url = start_server()
    try:
        asyncio.run(fill(url, events))
        rounds = [{name: measure(name, url, events, chosen.loop) for name in CLIENTS} for _ in range(chosen.rounds)]
    finally:
        server.terminate()
        server.wait()
    if chosen.peers:
        cache = Cache(REPOSITORY / ".cache" / "bench")
        for each in rounds:
            each.update({name: peer(cache, events) for name, peer in PEERS.items()})
    for name in rounds[0]:
        seconds, cpu = (min(each[name][index] for each in rounds) for index in (0, 1))
        figures = {"events_per_sec": round(events / seconds), "cpu_us_per_event": round(cpu / events * 1e6, 2)}
        print(json.dumps({"client": name, **figures}))


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    main()
