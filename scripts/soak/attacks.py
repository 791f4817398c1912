"""The bad clients, each kind by name, in their own process with the lowest priority. Paced: this is not a benchmark.

Run it alone: ``python attacks.py --port N --topic T --seconds S kind=count …``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from zlib import compress

sys.path.insert(0, str(Path(__file__).parents[2]))

from pubsub.client.frames import EXTENSION, FIN_DEFLATED, FIN_PING, FIN_TEXT, client_frame
from pubsub.protocol.deflate import DEFLATED
from pubsub.protocol.frames import CONTINUATION, FIN, TEXT

MASK = b"\x12\x34\x56\x78"
PAUSE = 0.1  # between two bursts
LARGEST = 1 << 20  # MAX_MESSAGE_BYTES of the server under test
LONGEST_NUMBER = 10**4300 - 1


class Attacker:
    """The connection of a bad client; it reads only in methods that say so."""

    def __init__(self, port: int, topic: str, token: str, random: Random) -> None:
        self.port = port
        self.topic = topic
        self.random = random
        self._token = token
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except BaseException:
            sock.close()
            raise
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=1 << 12)

    async def shake_hands(self, *, extension: str = "") -> None:
        """Open a WebSocket. ``extension``: the one that it must agree to."""
        await self.connect()
        offer = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
        query = f"?token={self._token}" if self._token else ""
        await self.send(
            f"GET /ws{query} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head or extension.encode() not in head:
            raise ConnectionError(head.decode(errors="replace").splitlines()[0])

    async def send(self, sent: bytes) -> None:
        self._writer.write(sent)
        await self._writer.drain()

    def ask(self, **request: object) -> bytes:
        return client_frame(FIN_TEXT, json.dumps({"client_id": "attacker", **request}).encode(), MASK)

    async def burst(self, *frames: bytes) -> None:
        """Send the same frames again and again, and ignore the answers."""
        sent = b"".join(frames)
        while True:
            await self.send(sent)
            await asyncio.sleep(PAUSE)

    async def read_all(self) -> None:
        while await self._reader.read(1 << 16):
            pass

    async def request(self, method: str, path: str, body: bytes = b"") -> None:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await self._reader.readexactly(size)

    def reset(self) -> None:
        """End the connection with a TCP reset, as a crashed machine does."""
        if hasattr(self, "_writer"):
            sock = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()


async def stall(bad: Attacker) -> None:
    """Subscribe and never read."""
    await bad.shake_hands()
    await bad.send(bad.ask(type="subscribe", topic=bad.topic))
    await bad.burst(client_frame(FIN_PING, b"", MASK))


async def replay_and_not_read(bad: Attacker) -> None:
    """Request the whole history of the topic, and never read."""
    await bad.shake_hands()
    await bad.send(bad.ask(type="subscribe", topic=bad.topic, last_n=1_000_000))
    await bad.burst(client_frame(FIN_PING, b"", MASK))


async def send_garbage(bad: Attacker) -> None:
    await bad.shake_hands()
    await bad.send(bad.random.randbytes(bad.random.choice([10, 1000, 100_000])))
    await bad.read_all()


async def promise_much(bad: Attacker) -> None:
    """Send the head of a frame that announces 2**62 bytes, or one byte more than is allowed."""
    await bad.shake_hands()
    size = bad.random.choice([1 << 62, LARGEST + 1])
    await bad.send(bytes((FIN_TEXT, 0xFF)) + size.to_bytes(8, "big") + MASK + b"x" * 1000)
    await bad.read_all()


async def flood_pings(bad: Attacker) -> None:
    """Send pings of both kinds, and never read the pongs."""
    await bad.shake_hands()
    await bad.burst(client_frame(FIN_PING, b"x" * 125, MASK) * 10, bad.ask(type="ping", request_id="r" * 128) * 10)


async def ask_and_not_read(bad: Attacker) -> None:
    """Request history again and again: a small request with a large answer."""
    await bad.shake_hands()
    await bad.burst(bad.ask(type="history", topic=bad.topic, last_n=1000) * 3)


async def flood_subscribes(bad: Attacker) -> None:
    await bad.shake_hands()
    reading = asyncio.create_task(bad.read_all())
    try:
        subscribe, unsubscribe = (bad.ask(type=kind, topic=bad.topic) for kind in ("subscribe", "unsubscribe"))
        await bad.burst((subscribe + unsubscribe) * 10)
    finally:
        reading.cancel()


async def flood_nonsense(bad: Attacker) -> None:
    """Send requests that are refused: deep nesting, unknown topics, wrong types, endless numbers."""
    await bad.shake_hands()
    reading = asyncio.create_task(bad.read_all())
    name = uuid.UUID(int=bad.random.getrandbits(128)).hex
    try:
        await bad.burst(
            client_frame(FIN_TEXT, b"[" * 50_000, MASK),
            bad.ask(type="publish", topic=f"unknown.{name}", message={"id": str(uuid.uuid4()), "payload": 1}),
            bad.ask(type="subscribe", topic=7),
            client_frame(FIN_TEXT, b'{"type":"publish","topic":"a","message":{"id":"x","payload":' + b"9" * 9000, MASK),
        )
    finally:
        reading.cancel()


async def send_the_largest(bad: Attacker) -> None:
    """Send requests of the maximum size to an unknown topic: a long text, or numbers of the maximum length."""
    await bad.shake_hands()
    reading = asyncio.create_task(bad.read_all())
    payload = bad.random.choice(["x" * (LARGEST - 300), [LONGEST_NUMBER] * (LARGEST // 4400)])
    frame = bad.ask(type="publish", topic="none", message={"id": str(uuid.uuid4()), "payload": payload})
    try:
        while True:
            await bad.send(frame)
            await asyncio.sleep(1)
    finally:
        reading.cancel()


async def fragment(bad: Attacker) -> None:
    """Send fragments of a message that never ends: almost the maximum size first, then only empty fragments."""
    await bad.shake_hands()
    await bad.send(client_frame(TEXT, b"", MASK) + client_frame(CONTINUATION, b"x" * (LARGEST - 1000), MASK))
    while True:
        await bad.send(client_frame(CONTINUATION, b"", MASK) * 100)
        await asyncio.sleep(PAUSE)


async def drop_bombs(bad: Attacker) -> None:
    """Send compressed messages, whole or in fragments, that inflate to 64 times the maximum size."""
    await bad.shake_hands(extension=EXTENSION)
    if bad.random.random() < 0.5:
        await bad.send(client_frame(FIN_DEFLATED, bomb(), MASK))
    else:
        half = len(bomb()) // 2
        await bad.send(client_frame(TEXT | DEFLATED, bomb()[:half], MASK))
        await bad.send(client_frame(FIN | CONTINUATION, bomb()[half:], MASK))
    await bad.read_all()


@cache
def bomb() -> bytes:
    return compress(bytes(64 * LARGEST), wbits=-15)


async def send_damaged(bad: Attacker) -> None:
    """Send what is not compressed as if it were, a control frame as if it were, or a message with a second stream."""
    await bad.shake_hands(extension=EXTENSION)
    whole = compress(b'{"type":"ping"}', wbits=-15)
    frames = [
        client_frame(FIN_DEFLATED, bad.random.randbytes(bad.random.choice([1, 100, 100_000])), MASK),
        client_frame(FIN_DEFLATED, whole + whole, MASK),
        client_frame(FIN_PING | DEFLATED, b"", MASK),
        client_frame(TEXT, b"", MASK) + client_frame(FIN | CONTINUATION | DEFLATED, b"", MASK),
    ]
    await bad.send(bad.random.choice(frames))
    await bad.read_all()


async def crawl(bad: Attacker) -> None:
    """Send the head of a request byte by byte."""
    await bad.connect()
    for byte in b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"x" * 10_000:
        await bad.send(bytes((byte,)))
        await asyncio.sleep(0.5)


async def crawl_inside_a_frame(bad: Attacker) -> None:
    await bad.shake_hands()
    for byte in client_frame(FIN_TEXT, b" " * 1000, MASK):
        await bad.send(bytes((byte,)))
        await asyncio.sleep(0.5)


async def say_nothing(bad: Attacker) -> None:
    await bad.connect()
    await bad.read_all()


async def come_and_go(bad: Attacker) -> None:
    await bad.shake_hands()
    await bad.send(bad.ask(type="subscribe", topic=bad.topic))


async def flood_topics(bad: Attacker) -> None:
    """Create fifty topics and delete them, again and again, as fast as one connection gets its answers."""
    await bad.connect()
    prefix = f"attack.{bad.random.getrandbits(40):x}."
    while True:
        names = [f"{prefix}{number}" for number in range(50)]
        for name in names:
            await bad.request("POST", "/topics", json.dumps({"name": name}).encode())
        for name in names:
            await bad.request("DELETE", f"/topics/{name}")
        await asyncio.sleep(PAUSE)


KINDS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "stall": stall,
    "replay": replay_and_not_read,
    "garbage": send_garbage,
    "promise": promise_much,
    "pings": flood_pings,
    "ask": ask_and_not_read,
    "subscribes": flood_subscribes,
    "nonsense": flood_nonsense,
    "largest": send_the_largest,
    "fragment": fragment,
    "bombs": drop_bombs,
    "damaged": send_damaged,
    "crawl": crawl,
    "crawl-frame": crawl_inside_a_frame,
    "silent": say_nothing,
    "come-and-go": come_and_go,
    "topics": flood_topics,
}
HOSTILE = [kind for kind in KINDS if kind != "stall"]


@dataclass(frozen=True)
class Order:
    """Attackers of one kind."""

    kind: str
    count: int


async def attack_for_ever(make: Callable[[], Attacker], kind: str) -> None:
    while True:
        bad = make()
        try:
            await KINDS[kind](bad)
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the server is expected to close its connection
        finally:
            bad.reset()
        await asyncio.sleep(bad.random.uniform(0.2, 0.6))


async def attack(orders: list[Order], port: int, topic: str, token: str, seed: int, seconds: float) -> None:
    """Run all attackers at once, until the time is over."""
    tasks = [
        asyncio.create_task(
            attack_for_ever(
                lambda number=number, kind=order.kind: Attacker(port, topic, token, Random(f"{seed} {kind} {number}")),  # type: ignore[misc]
                order.kind,
            )
        )
        for order in orders
        for number in range(order.count)
    ]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    failed = [task.exception() for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise RuntimeError("an attacker has a bug of its own") from failed[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of the server")
    parser.add_argument("--topic", required=True, help="topic to attack")
    parser.add_argument("--seconds", type=float, required=True, help="duration of the attack")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random generator")
    parser.add_argument("orders", nargs="+", metavar="kind=count", help=f"number of one kind: {', '.join(KINDS)}")
    chosen = parser.parse_args()
    os.nice(19)  # a measuring process on the same core must not wait for the attackers
    orders = [Order(kind, int(count)) for kind, _, count in (each.partition("=") for each in chosen.orders)]
    token = os.environ.get("ATTACKERS_TOKEN", "")
    asyncio.run(attack(orders, chosen.port, chosen.topic, token, chosen.seed, chosen.seconds))


if __name__ == "__main__":
    main()
