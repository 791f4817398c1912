"""Memory that pubsub/system/malloc.py returns to the system, and the time at which it does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from pubsub.http.app_keys import CONNECTIONS
from pubsub.system import malloc
from tests.harness import RawClient, eventually, run_server

# 20 MiB in pieces that the C library keeps after they are freed, because the last one is in use.
FREED_PIECES = """
from pathlib import Path
from pubsub.system.malloc import trim

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

pieces = [bytes(1000) for _ in range(20_000)]
last = bytes(1000)
del pieces
before = resident()
trim()
print(before - resident())
"""


def test_trim_gives_back_what_was_freed() -> None:
    done = subprocess.run([sys.executable, "-c", FREED_PIECES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 15_000_000


# Blocks of the size of long messages: the page faults of a thousand messages, and the rest of 64 MiB after a trim.
LARGE_BLOCKS = """
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from pubsub.system.malloc import KEPT, keep_freed

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

keep_freed()
block = bytes(1 << 20)
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(1000):
    block = [b"x" * (1 << 20) for _ in range(3)]
print(getrusage(RUSAGE_SELF).ru_minflt - before)
before = resident()
block = [b"x" * (1 << 20) for _ in range(64)]
del block
print(resident() - before - KEPT)
"""


def test_large_blocks_are_used_again_and_few_of_them_kept() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_BLOCKS], capture_output=True, text=True, check=True)
    faults, kept_beyond = map(int, done.stdout.split())
    assert faults < 10_000, "with fresh pages it would be 240,000 and more"
    assert kept_beyond <= 0


async def test_memory_is_given_back_whenever_a_thousand_clients_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    left, looks = 0, 0
    trimmed: list[int] = []

    def look() -> int:
        nonlocal looks
        looks += 1
        return left

    async def some_looks() -> None:
        before = looks
        await eventually(lambda: looks > before + 5)

    monkeypatch.setattr(malloc, "trim", lambda: trimmed.append(left))
    async with asynccontextmanager(malloc.given_back)(look, period=0.001):
        for number in (999, 1000, 1001, 1999, 2500):
            left = number
            await some_looks()
    assert trimmed == [1000, 2500]


async def test_a_client_that_ends_has_left() -> None:
    async with run_server() as server:
        client = await RawClient.connect(server.port)
        await eventually(lambda: server.connections == 1)
        assert server.app[CONNECTIONS].left == 0
        client.close()
        await eventually(lambda: server.app[CONNECTIONS].left == 1)


async def test_it_ends_with_the_application() -> None:
    before = asyncio.all_tasks()
    async with asynccontextmanager(malloc.given_back)(lambda: 0):
        assert len(asyncio.all_tasks() - before) == 1
    await eventually(lambda: asyncio.all_tasks() == before)
