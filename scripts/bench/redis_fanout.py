"""Measures what Redis itself needs to pass on a message to many servers: CPU of redis-server for each push.

    python scripts/bench/redis_fanout.py

Prints a line for each number of subscribers, size and number of messages that go together. docs/scaling.md and
scripts/capacity.py have the figures. CPU time says the same on a busy machine; the rate does not.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import cast

import uvloop

CASES = [  # subscribers, bytes, together, messages
    (10, 300, 1, 10_000),
    (100, 300, 1, 3_000),
    (1000, 300, 1, 300),
    (100, 300, 20, 6_000),
    (1000, 300, 20, 1_000),
    (100, 6_000, 1, 3_000),
    (100, 30_000, 1, 2_000),
]
CHANNEL = b"c"


class Subscriber(asyncio.Protocol):
    """A connection that counts what it gets and throws it away."""

    received = 0  # bytes of all of them

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(command(b"SUBSCRIBE", CHANNEL))  # uvloop has a class of its own

    def data_received(self, received: bytes) -> None:
        if self.begun.is_set():
            Subscriber.received += len(received)
        self.begun.set()


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def measure(process: int, port: int, subscribers: int, size: int, together: int, messages: int) -> float:
    """Return the CPU seconds of Redis for one push to one subscriber."""
    loop = asyncio.get_running_loop()
    readers = [(await loop.create_connection(Subscriber, "127.0.0.1", port))[1] for _ in range(subscribers)]
    await asyncio.gather(*(each.begun.wait() for each in readers))
    answers, publisher = await asyncio.open_connection("127.0.0.1", port)
    pushed = len(command(b"message", CHANNEL, b"x" * size))
    Subscriber.received = 0
    before = cpu_seconds(process)
    for done in range(together, messages + 1, together):
        publisher.write(command(b"PUBLISH", CHANNEL, b"x" * size) * together)
        for _ in range(together):
            await answers.readline()
        while Subscriber.received < done * subscribers * pushed:  # noqa: ASYNC110 - a turn of the loop, not a wait
            await asyncio.sleep(0)
    return (cpu_seconds(process) - before) / (messages * subscribers)


def run(case: tuple[int, int, int, int]) -> float:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    options = ["--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        while b"Ready to accept connections" not in (line := process.stdout.readline()):
            assert line, "redis-server ended"
        return uvloop.run(measure(process.pid, port, *case))
    finally:
        process.kill()
        process.wait()


def main() -> int:
    for case in CASES:
        subscribers, size, together, _ = case
        print(f"{subscribers:5} servers, {size:6} bytes, {together:3} together: {1e6 * run(case):.2f} µs for each push")
    return 0


if __name__ == "__main__":
    sys.exit(main())
